"""The update of recently reset entries, made a second time with the bias corrections of their own ages.

All parameters of a group are handled as one flat tensor. The cost is about twenty small operations in steps with
recently reset entries, and none in others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lop.optimizers.entry_age import AGES, AXES, INDEX, LEFT, OLD, EntryRule, along, forget_ages

WHOLE, SMALL = 0.5, 2**14
"""A parameter of which more than this share lies in recent rows and columns, or which has at most so many entries, is
read as a whole: all of these at once."""


class _Part(NamedTuple):
    """Some entries of one parameter that are handled together.

    number: the parameter's. dim, which: those at the indices of a dimension; without dim those at the flat indices;
    without both all. shape: theirs.
    """

    number: int
    dim: int | None
    which: Tensor | None
    shape: tuple[int, ...]

    def ages(self, state: dict[str, Any], param: Tensor) -> Tensor:
        """Of a shape that broadcasts against the part's."""
        if AGES in state:
            return state[AGES].view(self.shape)
        found = []
        for dim, name in enumerate(AXES):
            if name in state:
                ages = state[name] if self.which is None or dim != self.dim else state[name][self.which]
                found.append(along(ages, dim, param))
        return found[0] if len(found) == 1 else torch.minimum(*found)


def _parts_of(number: int, param: Tensor, state: dict[str, Any]) -> Iterator[_Part]:
    if AGES in state:
        shape = (len(state[AGES]),) if INDEX in state else tuple(param.shape)
        yield _Part(number, None, state.get(INDEX), shape)
        return
    recent: dict[int, Tensor] = {}
    if param.device.type == "cpu" and param.numel() > SMALL:  # elsewhere their number would have to be waited for
        named = {dim: state[name] for dim, name in enumerate(AXES) if name in state}
        recent = {dim: (ages < OLD).nonzero().squeeze(1) for dim, ages in named.items()}
    old = math.prod(1 - len(index) / param.shape[dim] for dim, index in recent.items())
    if not recent or 1 - old > WHOLE:
        yield _Part(number, None, None, tuple(param.shape))
        return
    for dim, index in recent.items():  # an entry of a recent row and a recent column comes twice, to the same end
        if len(index):
            shape = tuple(len(index) if d == dim else size for d, size in enumerate(param.shape))
            yield _Part(number, dim, index, shape)


class Young:
    """The recently reset entries of some parameters of one group, each of their tensors as one flat tensor.

    What is read is memory that a rule may write to, and that the next reading of the same name overwrites; p, the
    values before the step, is read only.
    In a step: `begin` before the optimizer's update of the parameters, `finish` after it.
    """

    def __init__(self, params: list[Tensor], states: list[dict[str, Any]]):
        self._params, self._states = params, states
        self._parts = [part for i, (p, s) in enumerate(zip(params, states, strict=True)) for part in _parts_of(i, p, s)]
        self._sizes = [math.prod(part.shape) for part in self._parts]
        self._whole = [i for i, part in enumerate(self._parts) if part.which is None]
        self._some = [
            (i, part.number, part.dim, part.which) for i, part in enumerate(self._parts) if part.which is not None
        ]
        self._count_anew()
        self._compact = len(self._ages) < sum(self._sizes)  # an age may be that of a whole row
        names = [(state, name) for state in states for name in (AGES, *AXES) if name in state]
        self._held = torch.cat([state[name] for state, name in names])
        for (state, name), ages in zip(
            names, self._held.split([len(state[name]) for state, name in names]), strict=True
        ):
            state[name] = ages
        self._own = [[state.get(name) for name in (INDEX, AGES, *AXES)] for state in states]
        self._memory: dict[tuple[str, torch.dtype], tuple[Tensor, list[Tensor]]] = {}
        self._per_age: dict[tuple[str, torch.dtype], tuple[Tensor, list[Tensor]]] = {}

    def _count_anew(self) -> None:
        """The parts' ages, from what the states hold."""
        ages = [part.ages(self._states[part.number], self._params[part.number]) for part in self._parts]
        self._age_shapes = [tuple(a.shape) for a in ages]
        self._ages = torch.cat([a.reshape(-1) for a in ages])
        self._left = [state[LEFT] for state in self._states]

    def is_of(self, params: list[Tensor]) -> bool:
        """Whether these are its parameters, and their recent entries those that it knows."""
        if len(params) != len(self._params) or any(a is not b for a, b in zip(params, self._params, strict=True)):
            return False
        names = (INDEX, AGES, *AXES)
        rows = zip(self._states, self._own, strict=True)
        return all(state.get(name) is own for state, row in rows for name, own in zip(names, row, strict=True))

    def begin(self, group: dict[str, Any], rule: EntryRule, grads: list[Tensor]) -> None:
        """group, rule: of this step. grads: of its parameters."""
        if any(state[LEFT] != left for state, left in zip(self._states, self._left, strict=True)):
            self._count_anew()  # some were reset again
        self.group, self.rule, self._grads = group, rule, grads
        self.options = tuple(_plain(group[name]) for name in rule.options)
        self.p = self._gather("p", self._params)
        self.before = {name: self._gather(f"{name} before", self._all(name)) for name in rule.before}

    def __getitem__(self, name: str) -> Tensor:
        """Their state, as it is now."""
        return self._gather(name, self._all(name))

    def __setitem__(self, name: str, values: Tensor) -> None:
        self._scatter(self._all(name), values)

    def gradient(self) -> Tensor:
        """With the optimizer's weight decay, where that is part of the gradient."""
        grad = self._gather("gradient", self._grads)
        decay = self.group.get("weight_decay", 0)
        return grad if not decay or self.group.get("decoupled_weight_decay") else grad + decay * self.p

    def decayed(self) -> Tensor:
        """p after decoupled weight decay."""
        decay = self.group.get("weight_decay", 0)
        return self.p * (1 - self.group["lr"] * decay) if decay and self.group.get("decoupled_weight_decay") else self.p

    def after(self) -> Tensor:
        """Their values as they are now."""
        return self._gather("after", self._params)

    def finish(self, kept: dict[tuple, tuple[Tensor, ...]], *, counts: bool) -> None:
        """After the step: their update again. counts: this step begins the life of entries that waited for one."""
        for ages in (self._ages, self._held):
            ages.add_(1 if counts else ages > 0)
        horizon = self.rule.horizon(*self.options)
        recent, *coefficients = self._coefficients(horizon, kept)
        moved = self.rule.update(self, *coefficients)
        if not counts:
            alive = self._spread("alive", self._ages > 0)
            moved = torch.where(alive, moved, self.p)
            for name in self.rule.moments:
                self[name] = torch.where(alive, self[name], 0)
        self._put_recent(moved, recent)
        for state in self._states:
            state[LEFT] -= 1
            if state[LEFT] <= 0:
                forget_ages(state)
        self._left = [state.get(LEFT, 0) for state in self._states]

    def _coefficients(self, horizon: int | None, kept: dict) -> Sequence[Tensor]:
        """Whether they are recent (1 or 0), and the rule's coefficients."""
        options = self.options
        dtype = torch.promote_types(self.p.dtype, torch.float32)
        if horizon is None:
            found = self.rule.coefficients(self._ages.clamp(min=1).double(), *options)
            columns = [value.to(dtype) for value in (self._ages < OLD, *found)]
            return [self._spread(f"coefficient {i}", column) for i, column in enumerate(columns)]
        key = self.rule.coefficients, options, dtype, self._ages.device
        if key not in kept:
            n = torch.arange(horizon + 2, dtype=torch.float64, device=self._ages.device).clamp_(min=1)
            n[-1] = torch.inf
            kept[key] = tuple(value.to(dtype) for value in (n.isfinite(), *self.rule.coefficients(n, *options)))
        place = torch.clamp(self._ages, max=horizon + 1, out=self._of_ages("place", torch.int64)[0])
        columns = [
            torch.index_select(table, 0, place, out=self._of_ages(f"coefficient {i}", dtype)[0])
            for i, table in enumerate(kept[key])
        ]
        return [self._spread(f"coefficient {i}", column) for i, column in enumerate(columns)]

    def _spread(self, name: str, values: Tensor) -> Tensor:
        """One value per entry, from one per age."""
        if not self._compact:
            return values
        memory, per_age = self._of_ages(name, values.dtype)
        if memory is not values:
            memory.copy_(values)
        flat, parts = self._flat(name, values.dtype)
        torch._foreach_copy_(parts, per_age)
        return flat

    def _of_ages(self, name: str, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """As `_flat`, with one value per age."""
        if (name, dtype) not in self._per_age:
            flat = torch.empty_like(self._ages, dtype=dtype)
            pieces = flat.split([math.prod(shape) for shape in self._age_shapes])
            self._per_age[name, dtype] = (
                flat,
                [v.view(shape) for v, shape in zip(pieces, self._age_shapes, strict=True)],
            )
        return self._per_age[name, dtype]

    def _all(self, name: str) -> list[Tensor]:
        return [state[name] for state in self._states]

    def _gather(self, name: str, tensors: list[Tensor]) -> Tensor:
        flat, parts = self._flat(name, tensors[0].dtype)
        if self._whole:
            torch._foreach_copy_(self._of(self._whole, parts), self._of_parameters(self._whole, tensors))
        for i, number, dim, index in self._some:
            if dim is None:
                torch.take(tensors[number], index, out=parts[i])
            else:
                torch.index_select(tensors[number], dim, index, out=parts[i])
        return flat

    def _scatter(self, tensors: list[Tensor], values: Tensor) -> None:
        parts = self._views(values.to(tensors[0].dtype))
        if self._whole:
            torch._foreach_copy_(self._of_parameters(self._whole, tensors), self._of(self._whole, parts))
        self._put_some(tensors, parts)

    def _put_some(self, tensors: list[Tensor], parts: list[Tensor]) -> None:
        for i, number, dim, index in self._some:
            if dim is None:
                tensors[number].put_(index, parts[i])
            else:
                tensors[number].index_copy_(dim, index, parts[i])

    def _put_recent(self, values: Tensor, recent: Tensor) -> None:
        """The parameters' recent entries become `values`; a weight of 0 or 1 gives one of the two numbers exactly."""
        moved, parts = self._flat("moved", self.p.dtype)
        moved.copy_(values)
        if self._whole:
            weight, weights = self._flat("recent", self.p.dtype)
            weight.copy_(recent)
            params = self._of_parameters(self._whole, self._params)
            torch._foreach_lerp_(params, self._of(self._whole, parts), self._of(self._whole, weights))
        self._put_some(self._params, parts)

    def _of(self, which: list[int], parts: list[Tensor]) -> list[Tensor]:
        return [parts[i] for i in which]

    def _of_parameters(self, which: list[int], tensors: list[Tensor]) -> list[Tensor]:
        return [tensors[self._parts[i].number] for i in which]

    def _flat(self, name: str, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """Memory and its parts: fresh memory costs page faults, more than the arithmetic done in it."""
        if (name, dtype) not in self._memory:
            flat = self._ages.new_empty(sum(self._sizes), dtype=dtype)
            self._memory[name, dtype] = flat, self._views(flat)
        return self._memory[name, dtype]

    def _views(self, flat: Tensor) -> list[Tensor]:
        """The parts of a flat tensor, each of its shape."""
        return [v.view(part.shape) for v, part in zip(flat.split(self._sizes), self._parts, strict=True)]


def _plain(value: Any) -> Any:
    """Hashable: betas may be a list."""
    return tuple(map(float, value)) if isinstance(value, list | tuple) else value


def young_entries(
    groups: Sequence[dict[str, Any]],
    rule_of: Callable[[dict[str, Any]], EntryRule | None],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: dict[Tensor, dict[str, Any]],
    kept: dict[tuple, Young],
) -> Iterator[Young]:
    """The recently reset entries among the parameters, those of a group (and kind of number) as one, before its step.

    kept: holds what it found for the next step.
    """
    young = [(p, g, states[p]) for p, g in zip(params, grads, strict=True)]
    young = [row for row in young if LEFT in row[2]]
    number_of = {id(p): i for i, group in enumerate(groups) for p in group["params"]} if len(groups) > 1 else {}
    rules = [rule_of(group) for group in groups]
    members: dict[tuple, list[tuple]] = {}
    for row in young:
        p = row[0]
        members.setdefault((number_of.get(id(p), 0), p.device, p.dtype), []).append(row)
    for key, rows in members.items():
        rule, alike = rules[key[0]], [p for p, _, _ in rows]
        if rule is None:
            continue
        if key not in kept or not kept[key].is_of(alike):
            kept[key] = Young(alike, [state for _, _, state in rows])
        kept[key].begin(groups[key[0]], rule, [g for _, g, _ in rows])
        yield kept[key]
