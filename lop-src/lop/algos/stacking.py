"""One intervention of many nets as one over stacked parameters, each net's own up to date all the time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lop.algos.base import Intervention
from lop.utils.state import Generator, Part, Value


class InterventionStack:
    """`together` acts for all members: an instance of their class whose parameters, state and features are (S, ...).

    Which state that is follows from its declaration. The members go on as views: their tensors keep their identity but
    lie in the stack's memory. Numbers and generators stay the members' own. What a class has to be for this:
    `Intervention.stacks`.

    stacked: from a parameter of the first member's net to the (S, ...) one that holds it.
    """

    def __init__(self, members: Sequence[Intervention], stacked: Callable[[Tensor], Tensor]):
        self.members = list(members)
        first = self.members[0]
        self._seen = [containers(member) for member in self.members]
        together = copy.copy(first)
        together.members = self.members
        together.parameters = {name: stacked(p) for name, p in first.parameters.items()}
        together.units = first.units.stacked(len(self.members), stacked)
        self._owned: list[list[Tensor]] = [[] for _ in self.members]
        self.together = together
        self._gather(together, self.members)

    def _gather(self, together: Any, members: Sequence[Any]) -> None:
        for name in together.varying:
            numbers = [getattr(member, name) for member in members]
            if all(isinstance(n, int | float) for n in numbers) and any(n != numbers[0] for n in numbers):
                device = together.units.device
                setattr(together, name, torch.tensor(numbers, dtype=torch.float64, device=device))
        for name, kind in together.state.items():
            theirs = [getattr(member, name) for member in members]
            if isinstance(kind, Part):
                setattr(together, name, self._gather_parts(theirs, together.units))
            elif not isinstance(kind, Value | Generator):
                setattr(together, name, self._stack(theirs))

    def _gather_parts(self, theirs: list[Any], units: Any) -> Any:
        if isinstance(theirs[0], list):
            return [self._gather_parts(list(parts), units) for parts in zip(*theirs, strict=True)]
        part = theirs[0].for_stack(units)
        if part is None:  # each member's own
            return theirs[0]
        self._gather(part, theirs)
        return part

    def _stack(self, theirs: list[Any]) -> Any:
        if isinstance(theirs[0], dict):
            return {key: self._stack([value[key] for value in theirs]) for key in theirs[0]}
        if isinstance(theirs[0], list):
            return [self._stack(list(values)) for values in zip(*theirs, strict=True)]
        if not isinstance(theirs[0], Tensor):
            return theirs[0]
        stacked = torch.stack([value.detach() for value in theirs])
        for tensor, value, owned in zip(theirs, stacked.unbind(), self._owned, strict=True):
            tensor.data = value
            owned.append(tensor)
        return stacked

    @property
    def intact(self) -> bool:
        """Whether the members' state is still that of the stack: nobody has loaded or replaced any meanwhile."""
        return same_objects(self.members, self._seen)

    def now(self) -> Intervention:
        """`together`, with the numbers that the members have (those it reads are the same for all)."""
        first, together = self.members[0], self.together
        for name, kind in together.state.items():
            if isinstance(kind, Value):
                setattr(together, name, getattr(first, name))
        return together

    def release(self, index: int) -> None:
        """This member's state has memory of its own again."""
        for tensor in self._owned[index]:
            tensor.data = tensor.data.clone()


def alike(members: Sequence[Intervention]) -> bool:
    """Whether one can stand for all: of one kind that says so, with equal options but those that may differ, at the
    same step, and with the same state by name and shape."""
    first = members[0]
    if not first.stacks or any(type(member) is not type(first) for member in members):
        return False
    form = _form(first)
    return all(_form(member) == form for member in members[1:])


def _form(owner: Any) -> tuple:
    plain = {
        name: value
        for name, value in vars(owner).items()
        if not name.startswith("_")
        and name not in owner.varying
        and name not in owner.state
        and isinstance(value, bool | int | float | str | type(None))
    }
    held = []
    for name, kind in owner.state.items():
        value = getattr(owner, name)
        if isinstance(kind, Part):
            held.append([_form(part) for part in value] if isinstance(value, list) else _form(value))
        elif not isinstance(kind, Value | Generator):
            held.append(_shapes(value))
    return plain, getattr(owner, "steps", None), held


def _shapes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shapes(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shapes(part) for part in value]
    return (value.shape, value.dtype) if isinstance(value, Tensor) else value


def same_objects(members: Sequence[Any], seen: Sequence[list[Any]]) -> bool:
    """Whether each holds the very objects that it held. seen: their `containers` at that time."""
    for member, before in zip(members, seen, strict=True):
        now = containers(member)
        if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
            return False
    return True


def containers(owner: Any) -> list[Any]:
    """What its attributes hold where that is tensors: another object means that they have been replaced."""
    found = []
    for name, kind in owner.state.items():
        value = getattr(owner, name)
        if isinstance(kind, Part):
            for part in value if isinstance(value, list) else [value]:
                found += containers(part)
        elif not isinstance(kind, Value | Generator):
            found.append(value)
    return found
