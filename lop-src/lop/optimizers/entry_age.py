"""Entries of a parameter that were reset a while ago, and what their bias corrections still have to make up for.

torch counts steps per parameter. An entry that starts anew under a grown count has moments near 0 and bias corrections
near 1, so its steps are wrong by up to 1/sqrt(1 - b2) until the corrections of its own count have come to 1, too. So
the update of these entries is made a second time, from the same moments with their own counts. A
parameter with few of them holds their flat indices, one with many the ages of all its entries; all parameters of a
group are handled as one flat tensor. The cost is about twenty small operations in steps with recently reset entries,
and none in others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lop.utils.state import State, Value, Whole

INDEX, AGES, LEFT = "young_index", "young_ages", "young_for"
"""State of a parameter with recently reset entries: their flat indices, int64 (k,), the steps each has made since,
int64 (k,), and the number of the parameter's own steps after which none is recent. Without indices (where entries are
many, or their number would have to be waited for) the ages are of all entries."""

AGE_STATE: State = {INDEX: Whole(), AGES: Whole(), LEFT: Value()}
"""Their kinds: of an optimizer's parameter."""

DENSE = 8
"""Ages of all entries are kept when at least one in so many is recent: reading in order is so much cheaper."""

OLD = 2**40
"""Age of the entries that were never reset, where all have one."""

TOLERANCE = 1e-2
"""How far a bias correction may be from 1 when it is dropped. A step is then at most half of that off, as it follows
the square root of a second moment: 0.5% at first, and less with every step."""


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


def rejuvenate(state: dict[str, Any], param: Tensor, mask: Tensor, horizon: int | None, lasts: int) -> None:
    """The masked entries have age 0. Forgets those that have become older than the horizon.

    lasts: the parameter's own steps after which they are old.
    """
    state[LEFT] = max(state.get(LEFT, 0), lasts)
    if AGES in state and INDEX not in state:
        state[AGES].view(param.shape).masked_fill_(mask, 0)
        return
    mask = mask.expand(param.shape).reshape(-1)
    if param.device.type != "cpu":
        _keep_all_ages(state, param)
        state[AGES].masked_fill_(mask, 0)
        return
    index, ages = mask.nonzero().squeeze(1), None
    if AGES in state:
        known = ~mask[state[INDEX]]
        if horizon is not None:
            known &= state[AGES] <= horizon
        index, ages = torch.cat([state[INDEX][known], index]), state[AGES][known]
    young = torch.zeros_like(index)
    if ages is not None:
        young[: len(ages)] = ages
    state[INDEX], state[AGES] = index, young
    if DENSE * len(index) >= param.numel():
        _keep_all_ages(state, param)


def _keep_all_ages(state: dict[str, Any], param: Tensor) -> None:
    every = torch.full((param.numel(),), OLD, dtype=torch.int64, device=param.device)
    if AGES in state:
        every.index_copy_(0, state.pop(INDEX), state[AGES])
    state[AGES] = every


def forget_ages(state: dict[str, Any]) -> None:
    """All entries are old."""
    for name in (INDEX, AGES, LEFT):
        state.pop(name, None)


def has_young(states: Iterable[dict[str, Any]]) -> bool:
    """Whether any parameter has recently reset entries."""
    return any(AGES in state for state in states)


class Young:
    """The recently reset entries of some parameters of one group, each of their tensors as one flat tensor.

    What is read is memory that a rule may write to, and that the next reading of the same name overwrites; p, the
    values before the step, is read only.
    In a step: `begin` before the optimizer's update of the parameters, `finish` after it.
    """

    def __init__(self, params: list[Tensor], states: list[dict[str, Any]]):
        self._params, self._states = params, states
        self._ages = torch.cat([state[AGES] for state in states])
        self._sizes = [len(state[AGES]) for state in states]
        for state, part in zip(states, self._ages.split(self._sizes), strict=True):
            state[AGES] = part
        self._index: list[Any] = [state.get(INDEX) for state in states]  # None: dense
        self._own = [state[AGES] for state in states]
        self._sparse = [i for i, index in enumerate(self._index) if index is not None]
        self._dense = [i for i, index in enumerate(self._index) if index is None]
        self._memory: dict[tuple[str, torch.dtype], tuple[Tensor, list[Tensor]]] = {}

    def is_of(self, params: list[Tensor]) -> bool:
        """Whether these are its parameters, and their recent entries those that it knows."""
        if len(params) != len(self._params) or any(a is not b for a, b in zip(params, self._params, strict=True)):
            return False
        rows = zip(self._states, self._own, self._index, strict=True)
        return all(state.get(AGES) is ages and state.get(INDEX) is index for state, ages, index in rows)

    def begin(self, group: dict[str, Any], rule: EntryRule, grads: list[Tensor]) -> None:
        """group, rule: of this step. grads: of its parameters."""
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
        ages = self._ages
        ages.add_(1 if counts else ages > 0)
        horizon = self.rule.horizon(*self.options)
        recent, *coefficients = self._coefficients(horizon, kept)
        moved = self.rule.update(self, *coefficients)
        if not counts:
            alive = ages > 0
            moved = torch.where(alive, moved, self.p)
            for name in self.rule.moments:
                self[name] = torch.where(alive, self[name], 0)
        self._put_recent(moved, recent)
        for state in self._states:
            state[LEFT] -= 1
            if state[LEFT] <= 0:
                forget_ages(state)

    def _coefficients(self, horizon: int | None, kept: dict) -> Sequence[Tensor]:
        """Whether they are recent (1 or 0), and the rule's coefficients."""
        options = self.options
        dtype = torch.promote_types(self.p.dtype, torch.float32)
        if horizon is None:
            found = self.rule.coefficients(self._ages.clamp(min=1).double(), *options)
            return [value.to(dtype) for value in (self._ages < OLD, *found)]
        key = self.rule.coefficients, options, dtype, self._ages.device
        if key not in kept:
            n = torch.arange(horizon + 2, dtype=torch.float64, device=self._ages.device).clamp_(min=1)
            n[-1] = torch.inf
            kept[key] = tuple(value.to(dtype) for value in (n.isfinite(), *self.rule.coefficients(n, *options)))
        place = torch.clamp(self._ages, max=horizon + 1, out=self._flat("place", torch.int64)[0])
        return [
            torch.index_select(table, 0, place, out=self._flat(f"coefficient {i}", dtype)[0])
            for i, table in enumerate(kept[key])
        ]

    def _all(self, name: str) -> list[Tensor]:
        return [state[name] for state in self._states]

    def _gather(self, name: str, tensors: list[Tensor]) -> Tensor:
        flat, parts = self._flat(name, tensors[0].dtype)
        if self._dense:
            torch._foreach_copy_([parts[i] for i in self._dense], [tensors[i] for i in self._dense])
        for i in self._sparse:
            torch.take(tensors[i], self._index[i], out=parts[i])
        return flat

    def _scatter(self, tensors: list[Tensor], values: Tensor) -> None:
        parts = self._parts(values.to(tensors[0].dtype))
        if self._dense:
            torch._foreach_copy_([tensors[i] for i in self._dense], [parts[i] for i in self._dense])
        for i in self._sparse:
            tensors[i].put_(self._index[i], parts[i])

    def _put_recent(self, values: Tensor, recent: Tensor) -> None:
        """The parameters' recent entries become `values`; a weight of 0 or 1 gives one of the two numbers exactly."""
        moved, parts = self._flat("moved", self.p.dtype)
        moved.copy_(values)
        if self._dense:
            weight, weights = self._flat("recent", self.p.dtype)
            weight.copy_(recent)
            columns = self._params, parts, weights
            torch._foreach_lerp_(*([tensors[i] for i in self._dense] for tensors in columns))
        for i in self._sparse:
            self._params[i].put_(self._index[i], parts[i])

    def _flat(self, name: str, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """Memory and its parts: fresh memory costs page faults, more than the arithmetic done in it."""
        if (name, dtype) not in self._memory:
            flat = self._ages.new_empty(len(self._ages), dtype=dtype)
            self._memory[name, dtype] = flat, self._parts(flat)
        return self._memory[name, dtype]

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """One per parameter, of the parameter's shape where all entries are held."""
        parts = list(flat.split(self._sizes))
        for i in self._dense:
            parts[i] = parts[i].view(self._params[i].shape)
        return parts


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
    grad_of = {p: g for p, g in zip(params, grads, strict=True) if AGES in states[p]}
    for number, group in enumerate(groups):
        rule = rule_of(group)
        if rule is None:
            continue
        members: dict[tuple, list[Tensor]] = {}
        for p in group["params"]:
            if p in grad_of:
                members.setdefault((number, p.device, p.dtype), []).append(p)
        for key, alike in members.items():
            if key not in kept or not kept[key].is_of(alike):
                kept[key] = Young(alike, [states[p] for p in alike])
            kept[key].begin(group, rule, [grad_of[p] for p in alike])
            yield kept[key]
