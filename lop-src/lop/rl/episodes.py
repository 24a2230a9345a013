"""Episodic returns, in bins of updates and over the task."""

from __future__ import annotations

import math


class EpisodeRecorder:
    """Mean undiscounted return and length of the episodes that ended, per bin and per task; NaN where none did."""

    def __init__(self):
        self._bin, self._task = [0.0, 0, 0], [0.0, 0, 0]  # return, length, episodes

    def record(self, episodes: list[tuple[float, int]]) -> None:
        """episodes: (return, length) of each."""
        for total, length in episodes:
            for sums in (self._bin, self._task):
                sums[0] += total
                sums[1] += length
                sums[2] += 1

    def close_bin(self) -> dict[str, float]:
        """Since the last call: return, length, episodes."""
        summary, self._bin = _means(self._bin), [0.0, 0, 0]
        return summary

    def close_task(self) -> dict[str, float]:
        """The same over the whole task."""
        summary, self._task = _means(self._task), [0.0, 0, 0]
        return summary

    def state_dict(self) -> dict:
        return {"bin": list(self._bin), "task": list(self._task)}

    def load_state_dict(self, state: dict) -> None:
        self._bin, self._task = list(state["bin"]), list(state["task"])


def _means(sums: list) -> dict[str, float]:
    total, length, episodes = sums
    if episodes == 0:
        return {"return": math.nan, "length": math.nan, "episodes": 0}
    return {"return": total / episodes, "length": length / episodes, "episodes": episodes}
