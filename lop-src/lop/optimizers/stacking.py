"""Many nets' optimizers as one over stacked parameters, each of them up to date all the time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.saving import own_attributes

_OWN_OF_EACH = ("generator", "model", "base", "member_generators", "young", "param_groups", "state", "defaults")


def settings(optimizer: ClosureOptimizer, params: Sequence[Tensor]) -> tuple:
    """Equal for optimizers that can be one: of one kind, with equal options, at the same step. Waits for the device.

    params: those of its net, in order.
    """
    base = getattr(optimizer, "base", None)
    inner = None
    if isinstance(base, ClosureOptimizer):
        inner = settings(base, params)
    elif base is not None:
        inner = type(base), _plain(own_attributes(base))
    place = {p: i for i, p in enumerate(params)}
    groups = [[place[p] for p in group["params"]] for group in optimizer.param_groups]
    numbers = [_numbers(optimizer.state.get(p, {}), optimizer.entry_names) for p in params]
    own = _plain(own_attributes(optimizer))
    return type(optimizer), inner, own, options(optimizer), groups, optimizer.steps, numbers


def options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Of its groups."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer's update depends on beside its groups and its state. Schedules by what they are made of."""
    kept = {k: v for k, v in attributes.items() if k not in _OWN_OF_EACH and not k.startswith("_")}
    return {k: (type(v), vars(v)) if hasattr(v, "__dict__") else v for k, v in kept.items()}


def _numbers(state: dict[str, Any], entries: Sequence[str]) -> dict[str, Any]:
    """A parameter's state as far as it is not per entry; of that, only whether it is there."""
    found: dict[str, Any] = {}
    for name, value in state.items():
        if name in entries:
            found[name] = None
        else:
            found[name] = value.tolist() if isinstance(value, Tensor) else value
    return found


class OptimizerStack:
    """`optimizer` steps all members as one. Their settings are equal.

    The members' own optimizers go on as views: what they hold per entry lies in the stack's memory, so that forgetting
    an entry or fading a moment of one member is done to the stack; numbers are written to them after each step.

    params: the stacked parameters (S, ...). owners: of each, the members' own ones. model: the stacked net.
    """

    def __init__(
        self,
        members: Sequence[ClosureOptimizer],
        params: Sequence[Tensor],
        owners: Sequence[Sequence[Tensor]],
        model: nn.Module,
    ):
        self.members, self._params, self._owners = list(members), list(params), list(owners)
        first = members[0]
        memo: dict[int, Any] = {id(theirs[0]): p for p, theirs in zip(params, owners, strict=True)}
        if first.model is not None:
            memo[id(first.model)] = model
        self.optimizer: ClosureOptimizer = copy.deepcopy(first, memo)
        self.optimizer.for_members([member.generator for member in members])
        self._entries = set(self.optimizer.entry_names)
        self._published: dict[Tensor, list[Tensor]] = {}  # the stacked tensors that the members' states are views of
        for p, theirs in zip(self._params, self._owners, strict=True):
            self._gather(p, theirs)
        self._remember()

    def _gather(self, p: Tensor, theirs: Sequence[Tensor]) -> None:
        state = self.optimizer.state.get(p)
        if not state:
            return
        states = [member.state[own] for member, own in zip(self.members, theirs, strict=True)]
        for name in list(state):
            if name in self._entries:
                state[name] = torch.stack([own[name] for own in states])
        self._publish(p, theirs, state)

    def _publish(self, p: Tensor, theirs: Sequence[Tensor], state: dict[str, Any]) -> None:
        """The members' states are views of this one from now on, or, where it is one for all, itself."""
        self._published[p] = [value for value in state.values() if isinstance(value, Tensor)]
        for i, (member, own) in enumerate(zip(self.members, theirs, strict=True)):
            for name, value in state.items():
                member.state[own][name] = value[i] if name in self._entries else value

    def _remember(self) -> None:
        self._seen = [(member.state, len(member.state), member._clock_restarts) for member in self.members]
        self._options = options(self.members[0])

    @property
    def intact(self) -> bool:
        """Whether the members can still be stepped as one: nobody has forgotten, loaded or set something meanwhile."""
        for member, (state, size, clock) in zip(self.members, self._seen, strict=True):
            if member._clock_restarts != clock:
                return False
            if member.young or member.steps != self.optimizer.steps or member.state is not state or len(state) != size:
                return False
            if options(member) != self._options:
                return False
        return True

    @torch.no_grad()
    def step(self, closure) -> Tensor:
        """One update of every member. closure() -> their losses (S,). Returns those of the first pass."""
        losses = self.optimizer.step(closure)
        steps = self.optimizer.steps
        for member in self.members:
            member.steps = steps
        changed = False
        for p, theirs in zip(self._params, self._owners, strict=True):
            changed |= self._update_members(p, theirs)
        if changed:
            self._remember()
        return losses

    def _update_members(self, p: Tensor, theirs: Sequence[Tensor]) -> bool:
        """Returns whether there is something new in the state."""
        state = self.optimizer.state.get(p)
        if not state:
            return False
        tensors = [value for value in state.values() if isinstance(value, Tensor)]
        before = self._published.get(p, ())
        if len(before) != len(tensors) or any(a is not b for a, b in zip(before, tensors, strict=True)):
            self._publish(p, theirs, state)
            self._published[p] = tensors
            return True
        numbers = {name: v for name, v in state.items() if not isinstance(v, Tensor)}
        if numbers:
            for member, own in zip(self.members, theirs, strict=True):
                member.state[own].update(numbers)
        return False

    def release(self, index: int) -> None:
        """This member's state has memory of its own again."""
        state = self.members[index].state
        for own in list(state):
            for name, value in state[own].items():
                if isinstance(value, Tensor):
                    state[own][name] = value.clone()
