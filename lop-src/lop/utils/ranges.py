"""What numbers an option may have: the ranges, by name, and the one check that all constructors make."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lop.utils.errors import UserError, shown


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; text says so in a message: "must be {text}".

    most: beyond it, a number is taken for a mistake (1e308, 2^31 epochs).
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    most: float = math.inf

    def __contains__(self, value: Any) -> bool:
        kinds = int if self.whole else int | float
        if not isinstance(value, kinds) or isinstance(value, bool) or not (self.whole or math.isfinite(value)):
            return False
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)


COUNT = Range("an integer >= 1", 1, whole=True, most=10**9)
COUNT_OR_ZERO = Range("an integer >= 0", 0, whole=True, most=10**9)
AMOUNT = Range(">= 0", 0, most=1e12)
POSITIVE = Range("> 0", 0, low_open=True, most=1e12)
STEP_SIZE = Range(">= 0", 0, most=1e6)  # and weight decays
SHARE = Range("in [0, 1]", 0, 1)
OPEN_SHARE = Range("in (0, 1)", 0, 1, low_open=True, high_open=True)
DECAY = Range(">= 0 and < 1", 0, 1, high_open=True)  # of a running average
FINITE = Range("finite", most=1e12)


def require(allowed: Range, **options: Any) -> None:
    """Raises UserError naming the first option whose number is out of range; None means that it is not set."""
    for name, value in options.items():
        if value is None:
            continue
        if value not in allowed:
            raise UserError(f"must be {allowed.text}, got {shown(value)}", option=name)
        if abs(value) > allowed.most:
            raise UserError(f"must be <= {allowed.most:g}, got {shown(value)}", option=name)


def require_all(allowed: Range, **options: Sequence[Any]) -> None:
    """As `require`, for every number of a list."""
    for name, values in options.items():
        for i, value in enumerate(values):
            require(allowed, **{f"{name}[{i}]": value})


def require_choice(choices: Sequence[str], **options: Any) -> None:
    """Raises UserError naming the first option that is not one of the choices."""
    for name, value in options.items():
        if value not in choices:
            raise UserError(f"must be one of {', '.join(choices)}, got {shown(value)}", option=name)


def whole_numbers(text: str, most: int = 100_000) -> list[int]:
    """`0,5,10-12` -> [0, 5, 10, 11, 12]. Raises ValueError for anything else, and for more than so many."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        if match is None:
            raise ValueError("expected numbers and ranges, e.g. 0,5,10-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or len(found) + last - first >= most:
            raise ValueError(f"expected ranges upwards, at most {most} numbers in all")
        found.extend(range(first, last + 1))
    return found


def seeds_of(given: int | str | Sequence[int]) -> list[int]:
    """Seeds as people give them: `0-15`, `0,3,7-9`, 3, [0, 3]. Raises ValueError for others and for one twice."""
    seeds: list[Any]
    if isinstance(given, str):
        seeds = whole_numbers(given)
    else:
        seeds = list(given) if isinstance(given, list | tuple | range) else [given]
    if not seeds or not all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds):
        raise ValueError("expected seeds, e.g. 0-15 or 0,3,7-9")
    if len(set(seeds)) < len(seeds):
        raise ValueError("expected every seed once")
    return seeds
