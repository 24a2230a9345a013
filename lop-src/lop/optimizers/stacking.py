"""Many nets' optimizers as one over stacked parameters, each of them up to date all the time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.entry_age import AGE_STATE, has_young
from lop.optimizers.members import MEMBER, Members
from lop.optimizers.saving import own_attributes

_OWN_OF_EACH = ("generator", "model", "base", "members", "young", "param_groups", "state", "defaults")


def structure(optimizer: ClosureOptimizer, params: Sequence[Tensor]) -> tuple:
    """Equal for optimizers that can be one: of one kind, at the same step, with equal options but for the numbers in
    which members may differ. Waits for the device.

    params: those of its net, in order.
    """
    place = {p: i for i, p in enumerate(params)}
    groups = [[place[p] for p in group["params"]] for group in optimizer.param_groups]
    apart = optimizer.options_apart
    fixed, numbers = _parts(optimizer, apart)
    return optimizer.steps, groups, apart, fixed, None if apart else (numbers, _counts(optimizer, params))


def numbers(optimizer: ClosureOptimizer, params: Sequence[Tensor]) -> tuple:
    """Equal for optimizers of one structure whose updates are one computation."""
    return _parts(optimizer, optimizer.options_apart)[1], _counts(optimizer, params)


def options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Of its groups."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def _parts(optimizer: Any, apart: bool) -> tuple[tuple, tuple]:
    """What members must have in common, and the numbers of an update in which they may differ if `apart`."""
    own = _plain(own_attributes(optimizer))
    may_differ = apart and isinstance(optimizer, ClosureOptimizer)
    each: Sequence[str] = optimizer.member_options if may_differ else ()
    cohort: Sequence[str] = optimizer.cohort_options if may_differ else ()
    base = getattr(optimizer, "base", None)
    inner, inner_numbers = ((), ()) if base is None else _parts(base, apart)
    fixed = {k: v for k, v in own.items() if k not in each and k not in cohort and k != "steps"}
    settings = options(optimizer)
    words = [{k: None if _is_numeric(v) else v for k, v in group.items()} for group in settings]
    numeric = [{k: v for k, v in group.items() if _is_numeric(v)} for group in settings]
    updates = {k: own[k] for k in cohort}
    return (type(optimizer), inner, fixed, words), (inner_numbers, numeric, updates)


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer's update depends on beside its groups and its state. Schedules by what they are made of."""
    kept = {k: v for k, v in attributes.items() if k not in _OWN_OF_EACH and not k.startswith("_")}
    return {k: (type(v), vars(v)) if hasattr(v, "__dict__") else v for k, v in kept.items()}


def _held(state: dict[str, Any]) -> dict[str, Any]:
    """Of a parameter, without what is known of recently reset entries, which is every member's own."""
    return {name: value for name, value in state.items() if name not in AGE_STATE}


def _counts(optimizer: ClosureOptimizer, params: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The parameters' state as far as it is not per entry; of that, only whether it is there."""
    held = [_held(optimizer.state.get(p, {})) for p in params]
    known = [{k: None if k in optimizer.entry_names else v for k, v in state.items()} for state in held]
    return [{k: v.tolist() if isinstance(v, Tensor) else v for k, v in state.items()} for state in known]


class OptimizerStack:
    """`optimizer` steps all members as one. They are of one structure; those with equal numbers are neighbours.

    The members' own optimizers go on as views: what they hold per entry lies in the stack's memory, so that forgetting
    an entry or fading a moment of one member is done to the stack; numbers are written to them after each step. What is
    known of their recently reset entries stays theirs.

    params: the stacked parameters (S, ...). owners: of each, the members' own ones. model: the stacked net. cuts: the
    places among the members where others' numbers begin, 0 and S included.
    """

    def __init__(
        self,
        members: Sequence[ClosureOptimizer],
        params: Sequence[Tensor],
        owners: Sequence[Sequence[Tensor]],
        model: nn.Module,
        cuts: Sequence[int],
    ):
        self.members = list(members)
        first = members[0]
        memo: dict[int, Any] = {id(theirs[0]): p for p, theirs in zip(params, owners, strict=True)}
        if first.model is not None:
            memo[id(first.model)] = model
        self.optimizer: ClosureOptimizer = copy.deepcopy(first, memo)
        stepped = [p for group in self.optimizer.param_groups for p in group["params"]]
        own = dict(zip(params, owners, strict=True))
        shared = Members(members, stepped, [own[p] for p in stepped], cuts)
        self.optimizer.for_members(shared)
        self._pieces = [(piece, shared.own(piece)) for p in stepped for piece in shared.pieces[p]]
        self._published: dict[Tensor, list[Tensor]] = {}  # the stacked tensors that the members' states are views of
        self._entries = set(self.optimizer.entry_names)
        self.optimizer.state.clear()
        if len(cuts) > 2:
            self._part(shared)
        for piece, theirs in self._pieces:
            self._gather(piece, theirs)
        self._remember()

    def _part(self, shared: Members) -> None:
        """Groups of pieces, each with the options of its members."""
        whole, parted = list(self.optimizer.param_groups), []
        for i, part in enumerate(shared.ranges):
            for group, theirs in zip(whole, options(self.members[part.start]), strict=True):
                pieces = [shared.pieces[p][i] for p in group["params"]]
                parted.append({**theirs, "params": pieces, MEMBER: part.start})
        self.optimizer.param_groups[:] = parted

    def _gather(self, piece: Tensor, theirs: Sequence[tuple[ClosureOptimizer, Tensor]]) -> None:
        states = [_held(optimizer.state.get(p, {})) for optimizer, p in theirs]
        if not states[0]:
            return
        for name, value in states[0].items():
            if name in self._entries:
                self.optimizer.state[piece][name] = torch.stack([own[name] for own in states])
            else:
                self.optimizer.state[piece][name] = value.clone() if isinstance(value, Tensor) else value
        self._publish(piece, theirs)

    def _publish(self, piece: Tensor, theirs: Sequence[tuple[ClosureOptimizer, Tensor]]) -> None:
        """The members' states are views of this one from now on, or, where it is one for all, itself."""
        state = self.optimizer.state[piece]
        self._published[piece] = [value for value in state.values() if isinstance(value, Tensor)]
        for i, (member, own) in enumerate(theirs):
            for name, value in state.items():
                member.state[own][name] = value[i] if name in self._entries else value

    def _remember(self) -> None:
        self._seen = [(member.state, len(member.state), member._clock_restarts) for member in self.members]
        self._options = [options(member) for member in self.members]

    @property
    def intact(self) -> bool:
        """Whether the members can still be stepped as one: nobody has forgotten, loaded or set something meanwhile."""
        steps = self.optimizer.steps
        for member, (state, size, clock), known in zip(self.members, self._seen, self._options, strict=True):
            if member.steps != steps or member.state is not state or len(state) != size:
                return False
            if member._clock_restarts != clock or options(member) != known:
                return False
        return True

    @torch.no_grad()
    def step(self, closure) -> Tensor:
        """One update of every member. closure() -> their losses (S,). Returns those of the first pass."""
        young = [member for member in self.members if member.young]
        self.optimizer.young = bool(young)
        losses = self.optimizer.step(closure)
        steps = self.optimizer.steps
        for member in self.members:
            member.steps = steps
        for member in young:
            member.young = has_young(member.state.values())
        changed = False
        for piece, theirs in self._pieces:
            changed |= self._update_members(piece, theirs)
        if changed:
            self._remember()
        return losses

    def _update_members(self, piece: Tensor, theirs: Sequence[tuple[ClosureOptimizer, Tensor]]) -> bool:
        """Returns whether there is something new in the state."""
        state = self.optimizer.state.get(piece)
        if not state:
            return False
        tensors = [value for value in state.values() if isinstance(value, Tensor)]
        before = self._published.get(piece, ())
        if len(before) != len(tensors) or any(a is not b for a, b in zip(before, tensors, strict=True)):
            self._publish(piece, theirs)
            return True
        numbers = {name: v for name, v in state.items() if not isinstance(v, Tensor)}
        if numbers:
            for member, own in theirs:
                member.state[own].update(numbers)
        return False

    def release(self, index: int) -> None:
        """This member's state has memory of its own again."""
        state = self.members[index].state
        for own in list(state):
            for name, value in state[own].items():
                if isinstance(value, Tensor):
                    state[own][name] = value.clone()
