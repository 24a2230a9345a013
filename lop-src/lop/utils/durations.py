"""Durations in words, for estimates."""

from __future__ import annotations

UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0))


def duration(seconds: float) -> str:
    """`40 seconds`, `3 minutes`, `5 hours`, `4 days`: an estimate has no more than one or two digits."""
    for unit, size in UNITS:
        if seconds >= 1.5 * size:
            count = seconds / size
            return f"{count:.0f} {unit}s" if count >= 2.5 else f"{count:.1f} {unit}s"
    return f"{max(1, round(seconds))} second{'' if round(seconds) <= 1 else 's'}"
