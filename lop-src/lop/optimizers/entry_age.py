"""Entries of a parameter that were reset a while ago, and what their bias corrections still have to make up for.

torch counts steps per parameter. An entry that starts anew under a grown count has moments near 0 and bias corrections
near 1, so its steps are wrong by up to 1/sqrt(1 - b2) until the corrections of its own count have come to 1, too. So
the update of these entries is made a second time, from the same moments with their own counts. They
are held as flat indices into the parameter, and all parameters of a group are handled as one: the cost is a few small
operations in steps with recently reset entries, and none in others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

INDEX, AGES = "young_index", "young_ages"
"""State of a parameter with recently reset entries: their flat indices, int64 (k,), and the steps each has made since,
int64 (k,). Without indices (where the number of entries would have to be waited for) the ages are of all entries."""

OLD = 2**40
"""Age of the entries that were never reset, where all have one."""

TOLERANCE = 1e-4
"""How far a bias correction may be from 1 when it is dropped."""


class EntryRule(NamedTuple):
    """How an optimizer moves an entry of a given age.

    options: the group's that the coefficients depend on. horizon(*options): the last age whose coefficients differ from
    those of old entries; None: they always do. coefficients(n, *options): functions of the age n >= 1 (float64), of n's
    shape, inf being an old entry's age. update(young, *coefficients): the entries after the step.
    moments: state that stays 0 while an entry waits for its first curvature. before: state to be kept from before
    the step.
    """

    options: tuple[str, ...]
    horizon: Callable[..., int | None]
    coefficients: Callable[..., tuple[Tensor, ...]]
    update: Callable[..., Tensor]
    moments: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


def steps_until(value: float, *decays: float) -> int:
    """The first n with decay^n <= value for all the decays."""
    return max((math.ceil(math.log(value) / math.log(d)) for d in map(float, decays) if 0 < d < 1), default=1)


def rejuvenate(state: dict[str, Any], param: Tensor, mask: Tensor, horizon: int | None) -> None:
    """The masked entries have age 0. Forgets those that have become older than the horizon."""
    mask = mask.expand(param.shape).reshape(-1)
    index, ages = state.get(INDEX), state.get(AGES)
    if param.device.type != "cpu":
        if ages is None or index is not None:
            every = torch.full((param.numel(),), OLD, dtype=torch.int64, device=param.device)
            ages = every if ages is None else every.index_copy_(0, index, ages)
            state.pop(INDEX, None)
        state[AGES] = ages.masked_fill(mask, 0)
        return
    if ages is not None and index is None:
        index, ages = (ages < OLD).nonzero().squeeze(1), ages[ages < OLD]
    added = mask.nonzero().squeeze(1)
    if ages is not None:
        kept = ~mask[index]
        if horizon is not None:
            kept &= ages <= horizon
        added, ages = torch.cat([index[kept], added]), torch.cat([ages[kept], ages.new_zeros(len(added))])
    state[INDEX], state[AGES] = added, torch.zeros_like(added) if ages is None else ages


def forget_ages(state: dict[str, Any]) -> None:
    """All entries are old."""
    state.pop(INDEX, None)
    state.pop(AGES, None)


class Young:
    """The recently reset entries of some parameters of one group, each of their tensors as one flat tensor.

    p: their values before the step. options: the values of the rule's options.
    """

    def __init__(
        self, group: dict[str, Any], rule: EntryRule, params: list[Tensor], grads: list[Tensor], states: list[dict]
    ):
        self.group, self.rule, self._params, self._grads, self._states = group, rule, params, grads, states
        self.options = tuple(_plain(group[name]) for name in rule.options)
        self.p = self._gather(params)
        self.before = {name: self._gather([state[name] for state in states]) for name in rule.before}

    def __getitem__(self, name: str) -> Tensor:
        """Their state, as it is now."""
        return self._gather([state[name] for state in self._states])

    def __setitem__(self, name: str, values: Tensor) -> None:
        self._scatter([state[name] for state in self._states], values)

    def gradient(self) -> Tensor:
        """With the optimizer's signs and its weight decay, where that is part of the gradient."""
        grad = self._gather(self._grads)
        if self.group.get("maximize"):
            grad = -grad
        decay = self.group.get("weight_decay", 0)
        return grad if not decay or self.group.get("decoupled_weight_decay") else grad + decay * self.p

    def decayed(self) -> Tensor:
        """p after decoupled weight decay."""
        decay = self.group.get("weight_decay", 0)
        return self.p * (1 - self.group["lr"] * decay) if decay and self.group.get("decoupled_weight_decay") else self.p

    def after(self) -> Tensor:
        """Their values as they are now."""
        return self._gather(self._params)

    def finish(self, kept: dict[tuple, tuple[Tensor, ...]], *, counts: bool) -> None:
        """After the step: their update again. counts: this step begins the life of entries that waited for one."""
        ages = [state[AGES] for state in self._states]
        for age in ages:
            age.add_(1 if counts else age > 0)
        age = torch.cat(ages) if len(ages) > 1 else ages[0]
        horizon = self.rule.horizon(*self.options)
        moved = self.rule.update(self, *self._coefficients(age, horizon, kept))
        if not counts:
            alive = age > 0
            moved = torch.where(alive, moved, self.p)
            for name in self.rule.moments:
                self[name] = torch.where(alive, self[name], 0)
        if any(INDEX not in state for state in self._states):
            limit = OLD - 1 if horizon is None else horizon
            moved = torch.where(age <= limit, moved, self.after())
        self._scatter(self._params, moved)

    def _coefficients(self, age: Tensor, horizon: int | None, kept: dict) -> Sequence[Tensor]:
        options = self.options
        dtype = torch.promote_types(self.p.dtype, torch.float32)
        if horizon is None:
            found = self.rule.coefficients(age.clamp(min=1).double(), *options)
            return [value.to(dtype) for value in found]
        key = self.rule.coefficients, options, dtype, age.device
        if key not in kept:
            n = torch.arange(horizon + 2, dtype=torch.float64, device=age.device).clamp_(min=1)
            n[-1] = torch.inf
            kept[key] = tuple(value.to(dtype) for value in self.rule.coefficients(n, *options))
        place = age.clamp(max=horizon + 1)
        return [table.index_select(0, place) for table in kept[key]]

    def _gather(self, tensors: list[Tensor]) -> Tensor:
        pieces = []
        for t, state in zip(tensors, self._states, strict=True):
            index = state.get(INDEX)
            pieces.append(t.detach().reshape(-1).clone() if index is None else torch.take(t.detach(), index))
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _scatter(self, tensors: list[Tensor], values: Tensor) -> None:
        sizes = [len(state[AGES]) for state in self._states]
        for t, state, part in zip(tensors, self._states, values.split(sizes), strict=True):
            index, part = state.get(INDEX), part.to(t.dtype)
            if index is None:
                t.copy_(part.view(t.shape))
            else:
                t.put_(index, part)


def _plain(value: Any) -> Any:
    """Hashable: betas may be a list."""
    return tuple(map(float, value)) if isinstance(value, list | tuple) else value


def young_entries(
    groups: Sequence[dict[str, Any]],
    rule_of: Callable[[dict[str, Any]], EntryRule | None],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: dict[Tensor, dict[str, Any]],
) -> Iterator[Young]:
    """The recently reset entries among the parameters, those of a group (and kind of number) as one."""
    grad_of = {p: g for p, g in zip(params, grads, strict=True) if AGES in states[p]}
    for group in groups:
        rule = rule_of(group)
        members: dict[tuple, list[Tensor]] = {}
        for p in group["params"]:
            if p in grad_of and rule is not None:
                members.setdefault((p.device, p.dtype), []).append(p)
        for alike in members.values():
            yield Young(group, rule, alike, [grad_of[p] for p in alike], [states[p] for p in alike])
