"""When a run must stop early: a signal, or the end of a session."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """Set by SIGTERM, SIGHUP, Ctrl-C or the time limit; the run then saves and ends at the next step.

    limit_seconds: from now on, of this process's share of the run. Stops when what is left is less than twice the
    longest pause between two looks (a step, an evaluation) plus the longest save, so that the last save is in time.
    """

    def __init__(self, limit_seconds: float | None = None):
        self.reason: str | None = None
        self._deadline = None if limit_seconds is None else time.monotonic() + limit_seconds
        self._previous: dict[int, Any] = {}
        self._last = time.monotonic()
        self._longest = self.longest_save = 0.0

    def __enter__(self) -> StopRequest:
        self._last = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        self.reason = signal.Signals(number).name
        # a second signal acts as usual: whoever insists need not wait for the save
        signal.signal(number, self._previous[number])

    def due(self) -> bool:
        """Whether to stop now; called between steps."""
        if self._deadline is not None and self.reason is None:
            now = time.monotonic()
            self._longest, self._last = max(self._longest, now - self._last), now
            if now + 2 * self._longest + self.longest_save > self._deadline:
                self.reason = "time limit"
        return self.reason is not None
