"""What changes while something learns, declared by name and kind: what is done to all of it follows from that.

    state: ClassVar[State] = {"steps": Value(0), "_age": PerUnit(0, dtype=torch.int64), "_draws": Generator()}

Saving, loading (onto another device, too), starting again, renewing what belongs to replaced units or reset entries,
fading: each is one function here. Interventions (and their parts) declare their attributes, `saved_state` and below; an
optimizer declares what it holds for a parameter, `renew_entries` and below.
An attribute is saved under its name without leading underscores.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


class Start(Enum):
    """Where state starts that starts at no number. KEPT: it was made in `attach`, and a restart leaves it as it is.
    PARAMETERS: at their values. MEAN: at the mean of all entries. NOTHING: there is none until its owner makes it."""

    KEPT = auto()
    PARAMETERS = auto()
    MEAN = auto()
    NOTHING = auto()


KEPT, PARAMETERS, MEAN, NOTHING = Start


class Axis(Enum):
    """The dimension of a tensor along which units lie, or their features (two per unit with CReLU)."""

    UNITS = auto()
    FEATURES = auto()


UNITS, FEATURES = Axis


class Fade(Enum):
    """What becomes of state after an intervention has changed the weights as a whole. STAYS: nothing. SCALES: it is
    multiplied by the factor of fading. RESTARTS: all that is held for the parameter starts again."""

    STAYS = auto()
    SCALES = auto()
    RESTARTS = auto()


class Layout(Protocol):
    """Where the units of several layers lie in one tensor."""

    device: torch.device
    dtype: torch.dtype

    def size(self, axis: Axis) -> int:
        """Of all layers together."""

    def along(self, tensor: Tensor, dim: int, axis: Axis, layer: Any) -> Tensor:
        """A layer's part of a tensor whose dimension `dim` is the axis: a view in which units are that dimension, and
        a unit's features, where the axis is theirs, the one before it."""


@dataclass(frozen=True)
class Value:
    """A number (or a tensor that holds one), a string, None, or lists and dicts of them. start: its first value, or a
    function of its owner that gives it."""

    start: Any = KEPT

    def new(self, owner: Any) -> Any:
        return self.start(owner) if callable(self.start) else copy.deepcopy(self.start)


@dataclass(frozen=True)
class Generator:
    """A torch.Generator. It goes on whatever starts again."""

    start: ClassVar[Start] = KEPT


@dataclass(frozen=True)
class Part:
    """An object with a declaration of its own, or a list of them. They are there from `attach` on."""

    start: ClassVar[Start] = KEPT


@dataclass(frozen=True)
class Whole:
    """A tensor, or lists and dicts of them, about the net as a whole. start: an empty list, dict or None."""

    start: Any = KEPT

    def new(self, owner: Any) -> Any:
        return copy.deepcopy(self.start)


@dataclass(frozen=True)
class PerEntry:
    """One number for every entry of the parameters. Of an optimizer: a tensor of the parameter's shape, in what is held
    for that parameter. Of an intervention: such tensors by the parameters' names; the owner's `parameters` are these.

    start: of a new entry: a number, the name of the option that it is (of the parameter's group), PARAMETERS, MEAN; of
    an intervention also NOTHING. fade: SCALES for running averages.
    """

    start: float | str | Start = 0.0
    fade: Fade = Fade.STAYS

    def new(self, owner: Any) -> dict[str, Tensor]:
        if self.start is NOTHING:
            return {}
        start = None if self.start is PARAMETERS else _number(owner, self.start)
        return {
            name: p.detach().clone() if start is None else torch.full_like(p.detach(), start)
            for name, p in owner.parameters.items()
        }


@dataclass(frozen=True)
class PerUnit:
    """Numbers of every hidden unit of the layers of the owner's `units` (a Layout), as one tensor.

    start: of a new unit: a number, or the name of the owner's attribute that it is. shape: with UNITS (or FEATURES)
    among its numbers and names of attributes. dtype: None: the parameters'.
    """

    start: float | str = 0.0
    shape: tuple[int | str | Axis, ...] = (UNITS,)
    dtype: torch.dtype | None = None

    @property
    def dim(self) -> int:
        """Of the units, from the end."""
        return next(i - len(self.shape) for i, size in enumerate(self.shape) if isinstance(size, Axis))

    @property
    def axis(self) -> Axis:
        return next(size for size in self.shape if isinstance(size, Axis))

    def new(self, owner: Any) -> Tensor:
        units: Layout = owner.units
        sizes = [units.size(n) if isinstance(n, Axis) else int(_number(owner, n)) for n in self.shape]
        start = _number(owner, self.start)
        return torch.full(sizes, start, dtype=self.dtype or units.dtype, device=units.device)

    def renew(self, owner: Any, tensor: Tensor, mask: Tensor, layer: Any) -> None:
        part = owner.units.along(tensor, self.dim, self.axis, layer)
        part.masked_fill_(mask.view(-1, *[1] * (-1 - self.dim)), _number(owner, self.start))


@dataclass(frozen=True)
class Factor:
    """Matrices (or diagonals) whose rows belong to slices of a parameter, by name. What a reset slice becomes in them
    is the optimizer's (`_renew_factors`)."""

    fade: Fade = Fade.STAYS


Kind = Value | Generator | Part | Whole | PerEntry | PerUnit | Factor
State = Mapping[str, Kind]


def _number(owner: Any, start: Any) -> Any:
    return getattr(owner, start) if isinstance(start, str) else start


# ---------------------------------------------------------------- attributes of an owner that declares `state`


def start_state(owner: Any) -> None:
    """All that is gathered is as at the start; generators go on."""
    for name, kind in owner.state.items():
        if isinstance(kind, Part):
            for part in _each(getattr(owner, name)):
                start_state(part)
        elif kind.start is not KEPT:
            setattr(owner, name, kind.new(owner))


def renew_units(owner: Any, layer: Any, mask: Tensor) -> None:
    """Some units of a layer are new: what is known of them is what is known at the start. mask: bool (units,)."""
    for name, kind in owner.state.items():
        if isinstance(kind, Part):
            for part in _each(getattr(owner, name)):
                renew_units(part, layer, mask)
        elif isinstance(kind, PerUnit):
            kind.renew(owner, getattr(owner, name), mask, layer)


def saved_state(owner: Any) -> dict[str, Any]:
    """Loads with `weights_only=True`. Tensors are the owner's own."""
    return {name.lstrip("_"): _saved(getattr(owner, name), kind) for name, kind in owner.state.items()}


def load_state(owner: Any, saved: Mapping[str, Any], device: torch.device) -> None:
    """The owner, as it was built with the same options, goes on from `saved_state`. device: of its tensors."""
    for name, kind in owner.state.items():
        value, now = saved[name.lstrip("_")], getattr(owner, name)
        if isinstance(kind, Generator):
            restore_generator(now, value, "an intervention's generator")
        elif isinstance(kind, Part):
            for part, part_saved in zip(_each(now), _each(value), strict=True):
                load_state(part, part_saved, device)
        else:
            setattr(owner, name, copy.deepcopy(value) if isinstance(kind, Value) else _copied(value, device))


def _saved(value: Any, kind: Kind) -> Any:
    if isinstance(kind, Generator):
        return generator_state(value)
    if isinstance(kind, Part):
        return [saved_state(part) for part in value] if isinstance(value, list) else saved_state(value)
    return copy.deepcopy(value) if isinstance(kind, Value) else _shallow(value)


def _each(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _shallow(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shallow(part) for key, part in value.items()}
    return [_shallow(part) for part in value] if isinstance(value, list) else value


def _copied(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part, device) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part, device) for part in value]
    return value.detach().to(device, copy=True) if isinstance(value, Tensor) else value


def generator_state(generator: torch.Generator) -> dict[str, Any]:
    return {"device": generator.device.type, "state": generator.get_state()}


def restore_generator(generator: torch.Generator, saved: Mapping[str, Any], whose: str) -> None:
    """Continue where the saved one was; on another kind of device, warn and go on with other random numbers."""
    if saved["device"] == generator.device.type:
        generator.set_state(saved["state"].cpu())
    else:
        warnings.warn(
            f"{whose} was saved on {saved['device']} and is loaded on {generator.device.type}: it continues with other "
            "random numbers",
            stacklevel=3,
        )


# ---------------------------------------------------------------- what an optimizer holds for a parameter


def per_member(declared: State) -> tuple[str, ...]:
    """The names of what each member of a stack has its own of, (S, ...); numbers are the same for all."""
    return tuple(name for name, kind in declared.items() if isinstance(kind, PerEntry | Whole))


def renew_entries(
    param: Tensor, held: Mapping[str, Any], declared: State, mask: Tensor, options: Mapping[str, Any]
) -> None:
    """The masked entries start again. options: of the parameter's group."""
    for name, kind in declared.items():
        value = held.get(name)
        if not isinstance(kind, PerEntry) or not isinstance(value, Tensor):
            continue
        if kind.start is PARAMETERS:
            value.copy_(torch.where(mask, param, value))
            continue
        start: Any = options[kind.start] if isinstance(kind.start, str) else kind.start
        value.masked_fill_(mask, value.mean() if start is MEAN else start)


def fade_entries(held: dict[str, Any], declared: State, factor: float) -> None:
    """Scales what fades; where something restarts, all does: the parameter is held nothing of."""
    fades = {name: kind.fade for name, kind in declared.items() if isinstance(kind, PerEntry | Factor)}
    if Fade.RESTARTS in fades.values():
        held.clear()
    for name, value in held.items():
        if fades.get(name) is Fade.SCALES:
            for tensor in value.values() if isinstance(value, dict) else [value]:
                if isinstance(tensor, Tensor):
                    tensor.mul_(factor)
