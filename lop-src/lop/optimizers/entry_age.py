"""Entries of a parameter that were reset a while ago, and what their bias corrections still have to make up for.

torch counts steps per parameter. An entry that starts anew under a grown count has moments near 0 and bias corrections
near 1, so its steps are wrong by up to 1/sqrt(1 - b2) until the corrections of its own count have come to 1, too. So
the update of these entries is made a second time, from the same moments with their own counts. Units are reset as
rows and columns of the weights, so a parameter holds ages of its rows and of its columns, and an entry is as old as the
younger of the two; where single entries were reset, it holds the flat indices of a few or the ages of all. How the
update is made again stands in `lop.optimizers.young`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lop.utils.state import State, Value, Whole

INDEX, AGES, LEFT = "young_index", "young_ages", "young_for"
AXES = ("young_rows", "young_columns")
"""State of a parameter with recently reset entries. AXES: the steps made since by the rows (first dimension) and
columns (second) of a parameter of which only whole ones were reset, int64 (rows,) and (columns,). Else INDEX: flat
indices, int64 (k,), and AGES: the steps each has made since, int64 (k,); without indices (where entries are many,
or their number would have to be waited for) the ages are of all entries. LEFT: the number of the parameter's own
steps after which none is recent."""

AGE_STATE: State = {**dict.fromkeys((INDEX, AGES, *AXES), Whole()), LEFT: Value()}
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
    axis = _axis_of(mask, param)
    if axis is not None and AGES not in state:
        _rejuvenate_axis(state, AXES[axis], mask.reshape(-1).expand(param.shape[axis]), horizon)
        return
    if any(name in state for name in AXES):
        _keep_all_ages(state, param)
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


def _axis_of(mask: Tensor, param: Tensor) -> int | None:
    """The dimension whose whole rows (0) or columns (1) the mask tells apart; None: it tells single entries apart."""
    shape = (1,) * (param.dim() - mask.dim()) + tuple(mask.shape)
    wide = [dim for dim, size in enumerate(shape) if size > 1]
    if not wide and param.dim():
        return 0
    return wide[0] if len(wide) == 1 and wide[0] < len(AXES) else None


def _rejuvenate_axis(state: dict[str, Any], name: str, mask: Tensor, horizon: int | None) -> None:
    """In other memory than before unless the recent ones stay the same: `Young` sees by it what it has to read."""
    ages = state.get(name)
    if ages is None:
        ages = torch.full(mask.shape, OLD, dtype=torch.int64, device=mask.device)
    elif mask.device.type == "cpu" and not (mask & (ages >= OLD)).any():
        ages.masked_fill_(mask, 0)
        return
    ages = ages.masked_fill(mask, 0)
    if horizon is not None:
        ages.masked_fill_(ages > horizon, OLD)
    state[name] = ages


def _keep_all_ages(state: dict[str, Any], param: Tensor) -> None:
    every = torch.full((param.numel(),), OLD, dtype=torch.int64, device=param.device)
    if INDEX in state:
        every.index_copy_(0, state.pop(INDEX), state[AGES])
    elif AGES in state:
        every = state[AGES]
    for dim, name in enumerate(AXES):
        if name in state:
            shaped = every.view(param.shape)
            torch.minimum(shaped, along(state.pop(name), dim, param), out=shaped)
    state[AGES] = every


def along(values: Tensor, dim: int, param: Tensor) -> Tensor:
    """One value per index of a dimension, shaped to broadcast against the parameter."""
    return values.view([-1 if d == dim else 1 for d in range(param.dim())])


def forget_ages(state: dict[str, Any]) -> None:
    """All entries are old."""
    for name in (INDEX, AGES, *AXES, LEFT):
        state.pop(name, None)


def has_young(states: Iterable[dict[str, Any]]) -> bool:
    """Whether any parameter has recently reset entries."""
    return any(LEFT in state for state in states)
