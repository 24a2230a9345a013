"""What several seeds say together: intervals over seeds, differences paired by seed, tests of many at once.

One place for it, so that a table, a figure and a sentence about the same runs agree. A number over seeds is an
`Estimate`; one seed has a value and no interval, and so decides nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST = 3  # seeds from which on anything is called decided
EXACT = 14  # differences up to which all their signs are tried
SHARE = 5  # of a run's tasks, one in so many is early, and as many are late


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval; low and high are NaN for fewer than two seeds."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero; never of one or two seeds, which agree by chance half of the time."""
        return self.seeds >= FEWEST and bool(self.low > 0 or self.high < 0)


def mean_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The mean with its percentile bootstrap interval (Efron 1979); the same values give the same interval.

    values: one per seed; those that are not finite are left out (a study scores a diverged run before it comes here).
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < 2:
        return Estimate(float(numbers[0]) if len(numbers) else float("nan"), float("nan"), float("nan"), len(numbers))
    drawn = np.random.default_rng(seed).choice(numbers, size=(resamples, len(numbers))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(numbers.mean()), float(low), float(high), len(numbers))


def differences(ours: pd.Series, theirs: pd.Series) -> pd.Series:
    """ours - theirs for every seed that both have; both by seed. What is not finite on either side is left out."""
    return (ours - theirs).replace([np.inf, -np.inf], np.nan).dropna()


def paired_difference(ours: pd.Series, theirs: pd.Series, *, level: float = LEVEL) -> Estimate:
    """The mean of ours - theirs over the seeds that both have, with its bootstrap interval.

    Runs of one seed see the same tasks in the same order, so that what is hard about them falls out.
    """
    return mean_interval(differences(ours, theirs).to_numpy(), level=level)


def sign_flip_test(values: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of the hypothesis that differences are as often of one sign as of the other (Fisher 1935).

    All signs are tried up to 14 differences, else so many at random. Of n differences it is at least 2 / 2^n: five
    seeds cannot give less than 0.0625. NaN for fewer than two finite differences.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < 2:
        return float("nan")
    seen = abs(numbers.sum()) * (1 - 1e-9)  # sums in another order differ by rounding
    if len(numbers) <= EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(numbers))))
        return float((abs(signs @ numbers) >= seen).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(resamples, len(numbers)))
    return float((1 + (abs(signs @ numbers) >= seen).sum()) / (1 + resamples))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for being many (Holm 1979): below alpha is significant at alpha over all together.

    NaN stays NaN and does not count as one of them.
    """
    adjusted = {name: float("nan") for name in values}
    known = sorted((value, name) for name, value in values.items() if np.isfinite(value))
    largest = 0.0
    for i, (value, name) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - i) * value))
        adjusted[name] = largest
    return adjusted


def window_of(tasks: int, window: int | None = None) -> int:
    """How many tasks at either end of a run are early and late: a fifth of them, at least one."""
    return window or max(1, tasks // SHARE)


def early_late(values: Sequence[float], window: int | None = None) -> tuple[float, float]:
    """Mean of the first and of the last `window_of` values, which are in the order of the tasks.

    The change is late - early. Values that are not finite are left out.
    """
    numbers = pd.Series(np.asarray(values, dtype=float)).replace([np.inf, -np.inf], np.nan)
    width = window_of(len(numbers), window)
    return float(numbers.head(width).mean()), float(numbers.tail(width).mean())
