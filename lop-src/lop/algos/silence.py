"""When a unit has been silent for too long: the two thresholds of self-normalised resets."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.layout import UnitLayout, per_member
from lop.utils.state import UNITS, PerUnit, State, renew_units, start_state


class AdaptiveThreshold:
    """The rule of the authors' code (Farias & Jozefiak, 2025): a threshold per unit that contracts or doubles.

    Time counts examples: a batch in which a unit is silent adds its size to the unit's age, one in which it fires ends
    the gap and makes the age 0. Gaps of 0 are left out. A unit is overdue when its age reaches its threshold, which
    ends the gap as well. Every `refresh` steps the (1 - eta) quantile of the gaps that ended since the last time is
    taken: the threshold becomes that quantile if this is smaller, else twice itself, within [min_time, max_time]; the
    gaps are then collected anew. A unit without gaps has quantile 1. The first threshold is max_time.

    A unit ends at most one gap per step, so that the gaps of a period are a table and no histogram.
    """

    state: ClassVar[State] = {
        "age": PerUnit(0, dtype=torch.int64),
        "gaps": PerUnit(0, (UNITS, "refresh"), dtype=torch.int32),  # 0: none ended in that step
        "threshold": PerUnit("max_time", dtype=torch.int64),
    }
    varying = ("eta",)
    eta: float | Tensor
    age: Tensor
    gaps: Tensor
    threshold: Tensor

    def __init__(self, units: UnitLayout, *, eta: float, min_time: int, max_time: int, refresh: int):
        self.units = units
        self.eta, self.min_time, self.max_time, self.refresh = eta, min_time, max_time, refresh
        start_state(self)

    def for_stack(self, units: UnitLayout) -> AdaptiveThreshold:
        """That of many nets, whose state is still to be put in."""
        other = copy.copy(self)
        other.units = units
        return other

    def overdue(self, fired: Tensor, batch: int, step: int) -> Tensor:
        """bool (units,), after step number `step` (from 1) with `batch` examples. fired: bool (units,)."""
        ended = self.age * fired
        self.age.add_(batch).masked_fill_(fired, 0)
        overdue = self.age >= self.threshold
        ended = torch.where(overdue, self.age, ended)
        self.gaps[..., (step - 1) % self.refresh] = ended.clamp(max=self.max_time).int()
        self.age.masked_fill_(overdue, 0)
        if step % self.refresh == 0:
            quantile = self._quantiles()
            self.threshold.copy_(torch.where(quantile < self.threshold, quantile, 2 * self.threshold))
            self.threshold.clamp_(self.min_time, self.max_time)
            self.gaps.zero_()
        return overdue

    def _quantiles(self) -> Tensor:
        """Per unit the smallest gap that at least 1 - eta of its gaps do not exceed, 1 without gaps; int64 (units,)."""
        counts = (self.gaps > 0).sum(-1)
        share = per_member(1 - self.eta, counts.double())
        enough = torch.ceil(share * counts.double() - 1e-9).long().clamp(min=1)  # 1e-9: of exact products
        place = (self.refresh - counts + enough - 1).clamp(max=self.refresh - 1)
        return self.gaps.sort(-1).values.gather(-1, place.unsqueeze(-1)).squeeze(-1).long().clamp(min=1)

    def was_reset(self, units: Tensor) -> None:
        """The authors' reset leaves a unit its threshold and its gaps, the one that has just ended among them."""


class LifetimeThreshold:
    """The (1 - eta) quantile of all inter-firing times since the unit's birth.

    Time counts steps; a unit that fires in every step has inter-firing times of 1. The quantile is taken every
    `refresh` steps, and is `max_time` until a unit has seen 1/eta times, without which it says nothing. Longer times
    count as `max_time`. A unit is overdue when it has been silent for more steps than its threshold.
    """

    state: ClassVar[State] = {
        "age": PerUnit(0, dtype=torch.int64),  # steps since the last firing
        "histogram": PerUnit(0.0, (UNITS, "max_time"), dtype=torch.float32),  # column j: inter-firing time j + 1
        "threshold": PerUnit("max_time", dtype=torch.int64),
    }
    varying = ("eta",)
    eta: float | Tensor
    age: Tensor
    histogram: Tensor
    threshold: Tensor

    def __init__(self, units: UnitLayout, *, eta: float, max_time: int, refresh: int):
        self.units, self.eta, self.max_time, self.refresh = units, eta, max_time, refresh
        start_state(self)

    def for_stack(self, units: UnitLayout) -> LifetimeThreshold:
        """That of many nets, whose state is still to be put in."""
        other = copy.copy(self)
        other.units = units
        return other

    def overdue(self, fired: Tensor, batch: int, step: int) -> Tensor:
        """As in AdaptiveThreshold; `batch` does not matter."""
        column = self.age.clamp(max=self.max_time - 1).unsqueeze(-1)
        self.histogram.scatter_add_(-1, column, fired.unsqueeze(-1).to(self.histogram.dtype))
        self.age.add_(1).masked_fill_(fired, 0)
        if step % self.refresh == 0:
            self.threshold.copy_(self._quantiles())
        return self.age > self.threshold

    def _quantiles(self) -> Tensor:
        """Per unit the smallest time that at least 1 - eta of its inter-firing times do not exceed, int64 (units,)."""
        counts = self.histogram.double().cumsum(-1)
        seen = counts[..., -1:]
        quantile = (counts < per_member(1 - self.eta, counts) * seen).sum(-1) + 1
        enough = torch.ceil(1 / torch.as_tensor(self.eta, dtype=torch.float64))
        return quantile.masked_fill(seen.squeeze(-1) < per_member(enough.to(seen.device), seen[..., 0]), self.max_time)

    def was_reset(self, units: Tensor) -> None:
        """Nothing is known of units that begin anew. units: bool (units,)."""
        for layer in self.units.layers:
            renew_units(self, layer, self.units.along(units, -1, UNITS, layer))
