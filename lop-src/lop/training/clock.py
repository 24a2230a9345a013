"""When a run saves and when it stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lop.config import Run
from lop.training.stopping import StopRequest


class Clock:
    """Asked after every step. stop: of this process; run: how often to save (steps, minutes)."""

    def __init__(self, stop: StopRequest, run: Run):
        self._stop, self._every, self._seconds = stop, run.checkpoint_every, 60 * run.checkpoint_minutes
        self._saved_at, self._saved_time = 0, time.monotonic()

    def stop_due(self) -> bool:
        return self._stop.due()

    def save_due(self, total: int) -> bool:
        """total: steps so far."""
        if self._every is not None and total // self._every > self._saved_at // self._every:
            return True
        return time.monotonic() - self._saved_time > self._seconds

    @contextmanager
    def saving(self, total: int) -> Iterator[None]:
        """Around a save after so many steps: how long it takes is time that the last save will need, too."""
        started = time.monotonic()
        yield
        self._saved_at, self._saved_time = total, time.monotonic()
        self._stop.longest_save = max(self._stop.longest_save, self._saved_time - started)

    def resumed(self, total: int) -> None:
        self._saved_at = total
