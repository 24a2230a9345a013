"""What runs now: a line per population and the time left, here and from another terminal (`lop status FOLDER`)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lop.executors.progress import in_words, line_of, read_facts, seconds_left, write_facts
from lop.runs import read_status
from lop.utils.errors import UserError

SECONDS = {True: 2.0, False: 60.0}  # between two looks, in a terminal and in a log
STUDY = "study.facts"


class LiveView:
    """While it is entered, prints every so often what runs. facts: of the whole stage, changed by who owns them."""

    def __init__(self, folder: Path, facts: dict[str, Any], report: Callable[[str], None]):
        self.folder, self.facts, self.report = folder, facts, report
        self._over = threading.Event()
        self._shown = 0  # lines to draw over

    def __enter__(self) -> LiveView:
        for left in self.folder.glob("*.json"):  # by jobs that were killed
            with contextlib.suppress(OSError):
                left.unlink()
        self.facts |= {"host": platform.node(), "process": os.getpid()}
        write_facts(self.folder / STUDY, self.facts)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self._over.set()
        self._thread.join()
        self._erase()
        with contextlib.suppress(OSError):
            (self.folder / STUDY).unlink()

    def _look(self) -> None:
        terminal = sys.stderr.isatty()
        while not self._over.wait(SECONDS[terminal]):
            lines = progress_lines(self.folder)
            if terminal:
                self._erase()
                self._shown = len(lines)
                print("\n".join(lines), file=sys.stderr, flush=True)
            else:
                self.report("\n".join(lines))

    def _erase(self) -> None:
        if self._shown:
            print(f"\033[{self._shown}A\033[J", end="", file=sys.stderr, flush=True)
            self._shown = 0


def progress_lines(folder: Path) -> list[str]:
    """A line per running population, and one for the whole stage. Empty where nothing says that it runs."""
    running, now = read_facts(folder), time.time()
    lines = [line_of(facts, now) for facts in running]
    try:
        stage = json.loads((folder / STUDY).read_text())
    except (OSError, ValueError):
        return lines
    text = f"{stage['stage']}: {stage['done']} of {stage['runs']} runs done"
    text += f", {stage['failed']} failed" if stage["failed"] else ""
    if _gone(stage):
        return [f"{text}; the study was stopped, the same command goes on"]
    if (left := _left(stage, running, now)) is not None:
        text += f", about {in_words(left)} left"
    return [*lines, text]


def _gone(stage: dict[str, Any]) -> bool:
    """Whether the process that drives the study was killed; of another machine nobody knows."""
    if stage.get("host") != platform.node() or os.name == "nt":
        return False
    try:
        os.kill(stage["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        pass
    return False


def _left(stage: dict[str, Any], running: list[dict[str, Any]], now: float) -> float | None:
    """Seconds of the whole stage, if what comes takes as long as what was: by runs done and parts of those that run."""
    parts = sum(facts["members"] * facts["step"] / facts["steps"] for facts in running if facts["steps"])
    done = stage["done"] + parts
    longest = max((seconds_left(facts) or 0.0 for facts in running), default=0.0)
    if not done:
        return None
    return max((now - stage["begun"]) * (stage["runs"] - done) / done, longest)


def status_lines(folder: Path) -> list[str]:
    """Of a study's, a sweep's or any results folder: what runs, and how many run folders are in which state.

    Raises UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a study's results_dir or any folder of runs")
    states: Counter[str] = Counter()
    for path in folder.rglob("status.json"):
        if any(part.startswith("old-") for part in path.relative_to(folder).parts):  # set aside
            continue
        try:
            states[read_status(path.parent).get("state", "unknown")] += 1
        except UserError:
            states["damaged"] += 1
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no runs yet"
    return [*progress_lines(folder / ".progress"), f"run folders: {counts}"]
