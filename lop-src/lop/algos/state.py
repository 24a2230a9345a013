"""What changes while an intervention learns, declared by name and kind: saving and loading follow from that.

    state: ClassVar[State] = {"steps": Kind.VALUE, "_generator": Kind.GENERATOR}

An attribute is saved under its name without leading underscores. What declares it need not be an intervention.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor

from lop.algos.randomness import generator_state, restore_generator


class Kind(Enum):
    """VALUE: a number, a string, None, or lists and dicts of them. TENSORS: a tensor, or lists and dicts of them.
    GENERATOR: a torch.Generator. NESTED: an object with a declaration of its own, or a list of them."""

    VALUE = auto()
    TENSORS = auto()
    GENERATOR = auto()
    NESTED = auto()


State = Mapping[str, Kind]


def saved_state(owner: Any) -> dict[str, Any]:
    """Loads with `weights_only=True`. Tensors are the owner's own."""
    return {name.lstrip("_"): _saved(getattr(owner, name), kind) for name, kind in owner.state.items()}


def load_state(owner: Any, saved: Mapping[str, Any], device: torch.device) -> None:
    """The owner, as it was built with the same options, goes on from `saved_state`. device: of its tensors."""
    for name, kind in owner.state.items():
        value, now = saved[name.lstrip("_")], getattr(owner, name)
        if kind is Kind.GENERATOR:
            restore_generator(now, value)
        elif kind is Kind.NESTED:
            for part, part_saved in zip(_each(now), _each(value), strict=True):
                load_state(part, part_saved, device)
        else:
            setattr(owner, name, _copied(value, device) if kind is Kind.TENSORS else copy.deepcopy(value))


def _saved(value: Any, kind: Kind) -> Any:
    if kind is Kind.GENERATOR:
        return generator_state(value)
    if kind is Kind.NESTED:
        return [saved_state(part) for part in value] if isinstance(value, list) else saved_state(value)
    return _shallow(value) if kind is Kind.TENSORS else copy.deepcopy(value)


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
