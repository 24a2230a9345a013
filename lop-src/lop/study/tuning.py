"""Choosing a setting: the same rule and the same budget for every method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lop.study.file import rounded
from lop.study.scores import Score
from lop.study.spec import Setting


@dataclass(frozen=True)
class Tried:
    """One setting of a case. scores: by tuning seed, NaN where the run failed. step: its step size, if it has one."""

    setting: Setting
    scores: dict[int, float]
    step: float | None

    @property
    def value(self) -> float:
        """Mean over the seeds; NaN where one of them failed: what cannot be trained cannot be chosen."""
        return float(np.mean(list(self.scores.values()))) if self.scores else math.nan


def selected(score: Score, select: str) -> float:
    """What a run counts for in the selection."""
    return score.late if select == "late_accuracy" else score.mean


def best(tried: Sequence[Tried], higher_is_better: bool) -> Tried | None:
    """The setting with the best mean over the tuning seeds; of equal ones that with the smaller step size.

    None where no setting was trained on all seeds.
    """
    known = [one for one in tried if math.isfinite(one.value)]
    sign = -1.0 if higher_is_better else 1.0
    return min(known, key=lambda one: (sign * one.value, math.inf if one.step is None else one.step), default=None)


def edges(tried: Sequence[Setting], chosen: Setting) -> dict[str, str]:
    """The numeric axes on which the chosen value is the smallest or largest that was tried: path -> low or high.

    An axis of one value, or with values that are no numbers, has no edge.
    """
    found = {}
    for path, value in chosen.items():
        values = {setting[path] for setting in tried if _number(setting[path])}
        if not _number(value) or len(values) < 2:
            continue
        if value == min(values):
            found[path] = "low"
        elif value == max(values):
            found[path] = "high"
    return found


def beyond(tried: Sequence[Setting], path: str, edge: str) -> Any | None:
    """The next value beyond an edge, by the factor of the two values there; None where a factor means nothing."""
    values = sorted({setting[path] for setting in tried})
    last, inner = (values[0], values[1]) if edge == "low" else (values[-1], values[-2])
    if last <= 0 or inner <= 0:
        return None
    value = last * last / inner
    if isinstance(last, int):
        whole = round(value)
        return whole if whole >= 1 and whole not in values else None
    return rounded(value)


def extension(tried: Sequence[Setting], chosen: Setting, room: int) -> list[Setting]:
    """Settings to try next: the chosen one with a value beyond each edge that it is at, at most `room` of them."""
    found = []
    for path, edge in edges(tried, chosen).items():
        value = beyond(tried, path, edge)
        setting = {**chosen, path: value}
        if value is not None and setting not in tried:
            found.append(setting)
    return found[: max(0, room)]


def spread_of(tried: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By path every value that was tried, in order."""
    paths = tried[0] if tried else {}
    found = {}
    for path in paths:
        values = list({repr(setting[path]): setting[path] for setting in tried}.values())
        found[path] = sorted(values) if all(_number(value) for value in values) else values
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
