"""Live progress: a bar in a terminal, a line redrawn in place in a notebook, a line now and then in a log."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

TEXT_SECONDS = 15.0  # between lines in a log
NOTEBOOK_SECONDS = 0.5  # between redraws in a notebook
LINE = 112  # characters: what a method with a long name leaves is enough for the mean and spread of its runs


def in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


class Progress:
    """Shows tasks, steps per second, time left and current performance of one run, or of several side by side.

    In a notebook the line is one display, updated in place: it lives in Jupyter, Colab and Kaggle, and under
    papermill its last state stays as text. So is the current task's summary, which goes when the run ends.
    """

    def __init__(self, label: str):
        self.label = label
        self._begin()

    def _begin(self) -> None:
        self._start = time.monotonic()
        self._last = float("-inf") if in_notebook() else self._start
        self._first_step: int | None = None
        self._display: Any = None
        self._summary: Any = None
        self._bar: tqdm | None = None
        self._line = ""

    def update(
        self, task: int, num_tasks: int, step: int, steps: int, performance: Sequence[tuple[str, float]]
    ) -> None:
        """task: the current one, from 0; step, steps: done and in all.

        performance: of each run that is trained, what is measured and its value.
        """
        if self._first_step is None:
            self._first_step = step
        note = f"task {min(task + 1, num_tasks)}/{num_tasks}, {_in_words(performance)}"
        if in_notebook():
            self._line = self._meter(step, steps, note)
            if time.monotonic() - self._last >= NOTEBOOK_SECONDS:
                self._redraw()
        elif sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=steps, initial=step, desc=self.label, unit="step", dynamic_ncols=True)
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(step - self._bar.n)
        elif time.monotonic() - self._last >= TEXT_SECONDS:
            self._last = time.monotonic()
            print(self._meter(step, steps, note), file=sys.stderr, flush=True)

    def _meter(self, step: int, steps: int, note: str) -> str:
        elapsed = time.monotonic() - self._start
        rate = (step - (self._first_step or 0)) / elapsed if elapsed > 0 else 0.0
        return tqdm.format_meter(
            step, steps, elapsed, ncols=LINE, prefix=self.label, unit="step", rate=rate or None, postfix=note
        )

    def _redraw(self) -> None:
        from IPython.display import display

        self._last = time.monotonic()
        if self._display is None:
            self._display = display(PlainText(self._line), display_id=True)
        else:
            self._display.update(PlainText(self._line))

    def summary(self, text: str) -> None:
        """A task has ended: its summary, in a notebook in place of the last one."""
        if not in_notebook():
            print_summary(text)
            return
        from IPython.display import display

        if self._summary is None:
            self._summary = display(PlainText(text), display_id=True)
        else:
            self._summary.update(PlainText(text))

    def close(self) -> None:
        """Show the last state; what comes next is shown anew."""
        if self._bar is not None:
            self._bar.close()
        if self._line:
            self._redraw()
        if self._summary is not None:
            self._summary.update(PlainText(""))
        self._begin()


def print_summary(text: str) -> None:
    """As it is where nothing can be drawn over: in terminals and logs."""
    print(text, flush=True)


def performance_text(name: str, value: float) -> str:
    """As tables and figures write it: an accuracy in percent, anything else with three digits."""
    return f"{value:.1%}" if name == "accuracy" and math.isfinite(value) else f"{value:.3f}"


def _in_words(performance: Sequence[tuple[str, float]]) -> str:
    """`accuracy 81.2%`, and of several runs their number, mean and standard deviation."""
    name, values = performance[0][0], [value for _, value in performance if math.isfinite(value)]
    if len(performance) == 1:
        return f"{name} {performance_text(*performance[0])}"
    if not values:
        return f"{len(performance)} runs, {name} nan"
    spread = f" +- {performance_text(name, statistics.stdev(values))}" if len(values) > 1 else ""
    lost = f", {len(performance) - len(values)} without" if len(values) < len(performance) else ""
    return f"{len(performance)} runs, {name} {performance_text(name, statistics.fmean(values))}{spread}{lost}"


class PlainText:
    """Displayed as plain text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text
