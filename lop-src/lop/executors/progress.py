"""How far jobs are, in files that anybody may read: the live view, and `lop status` from another terminal."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lop.training.progress import Progress, performance_text

SECONDS = 2.0  # between two writes of a job
STALE = 120.0  # seconds without a word after which a job is said to be silent


class WrittenProgress(Progress):
    """The progress of one job, written into a folder from time to time. members: runs in it."""

    def __init__(self, folder: Path, label: str, members: int):
        super().__init__(label)
        self.path = folder / f"{label}.json"
        self._members, self._begun, self._written = members, time.time(), float("-inf")
        self._from: int | None = None

    def update(
        self, task: int, num_tasks: int, step: int, steps: int, performance: Sequence[tuple[str, float]]
    ) -> None:
        if self._from is None:
            self._from, self._begun = step, time.time()
        if time.monotonic() - self._written < SECONDS:
            return
        self._written = time.monotonic()
        values = [value for _, value in performance if math.isfinite(value)]
        now = {"label": self.label, "members": self._members, "task": min(task + 1, num_tasks), "num_tasks": num_tasks}
        now |= {"step": step, "steps": steps, "from": self._from, "begun": self._begun, "now": time.time()}
        now |= {"what": performance[0][0], "value": fmean(values) if values else None}
        write_facts(self.path, {**now, "host": platform.node(), "process": os.getpid()})

    def close(self) -> None:
        """Of one population of the job; the job may have others."""
        self._from = None

    def end(self) -> None:
        """The job is over."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Whole or not at all, but not flushed: nothing depends on it, and where it cannot be written nothing is lost."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(json.dumps(facts))
        os.replace(part, path)


def read_facts(folder: Path) -> list[dict[str, Any]]:
    """Of all running jobs, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text()))
    return [facts for facts in found if isinstance(facts, dict)]


def seconds_left(facts: dict[str, Any]) -> float | None:
    """Of a job as it goes on now; None where it has just begun."""
    done = facts["step"] - facts["from"]
    return (facts["steps"] - facts["step"]) * (facts["now"] - facts["begun"]) / done if done > 0 else None


def line_of(facts: dict[str, Any], now: float) -> str:
    """`digits-sgd+4: 5 runs, task 3/20, accuracy 81.2%, 40%, 0:41 left`."""
    runs = f"{facts['members']} runs, " if facts["members"] > 1 else ""
    what, value = facts["what"], facts["value"]
    result = "diverged" if value is None else f"{what} {performance_text(what, value)}"
    left = seconds_left(facts)
    ending = f", {in_words(left)} left" if left is not None else ""
    silent = now - facts["now"]
    if silent > STALE:
        ending = f", silent for {in_words(silent)}"
    share = facts["step"] / facts["steps"] if facts["steps"] else 0.0
    place = f"task {facts['task']}/{facts['num_tasks']}"
    return f"{facts['label']}: {runs}{place}, {result}, {share:.0%}{ending}"


def in_words(seconds: float) -> str:
    """`0:41`, `1:02:03`, `2 days 3:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} day{'s' if days > 1 else ''} {hours}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
