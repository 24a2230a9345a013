"""Processes of their own for calls, which end with the process that asked for them, however that ends."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


class WorkerDiedError(Exception):
    """A process ended before it could answer."""


class Workers:
    """Calls in other processes (a context manager). Every one of them ends when `end` is called, or when this one dies.

    A process that has answered takes the next call; one that dies takes no call along but its own. environments: what
    the first, the second, ... of the processes that live at once finds in its environment beside this one's.

    This process holds one end of a pipe, and the system closes it whatever ends the process: SIGKILL, too. The others
    wait at the other end. What they start sees to its own end: a Jupyter kernel looks for its parent every second.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]] = ()) -> None:
        self._context = get_context("spawn")  # a copy of this process would hold the pipe open
        self._watched, self._held = self._context.Pipe(duplex=False)
        self._environments = list(environments)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._numbers: set[int] = set()  # of the processes that live
        self.ended = self._asked = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc) -> None:
        self.end()
        self._watched.close()

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """function(argument), both of which can be pickled. Raises WorkerDiedError when there is no answer."""
        worker = self._take()
        try:
            answer = worker.call(function, argument)
        except WorkerDiedError:
            with self._lock:
                self._numbers.discard(worker.number)
            raise
        finally:
            with self._lock:
                self._busy.discard(worker)
        with self._lock:
            self._idle.append(worker)
        return answer

    def ask_to_stop(self) -> None:
        """SIGTERM to every process with a call: what trains there saves and answers, anything else ends."""
        with self._lock:
            self._asked = True
            for worker in self._busy:
                worker.terminate()

    def _take(self) -> _Worker:
        with self._lock:
            if self.ended:
                raise WorkerDiedError
            if self._idle:
                self._busy.add(worker := self._idle.pop())
                return worker
            number = min(set(range(len(self._numbers) + 1)) - self._numbers)
            self._numbers.add(number)
        environment = self._environments[number % len(self._environments)] if self._environments else {}
        worker = _Worker(self._context, self._watched, number, environment)
        with self._lock:
            self._busy.add(worker)
            if self._asked:  # while it was started
                worker.terminate()
        return worker

    def end(self) -> None:
        """Stop every call that is still running, and let the idle processes go."""
        self.ended = True
        self._held.close()
        with self._lock:
            for worker in self._idle:
                worker.close()
            self._idle.clear()


class _Worker:
    """One process, which takes one call after the other."""

    def __init__(self, context: Any, watched: Connection, number: int, environment: Mapping[str, str]):
        self.number = number
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, watched, dict(environment)))
        self._process.start()
        theirs.close()  # the process has its own; the last one closed is the end of what can be received

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        try:
            self._connection.send((function, argument))
            return self._connection.recv()
        except (EOFError, ConnectionError):
            self.close()
            raise WorkerDiedError from None

    def terminate(self) -> None:
        self._process.terminate()

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _work(calls: Connection, parent: Connection, environment: Mapping[str, str]) -> None:
    def end_with_parent() -> None:
        with contextlib.suppress(OSError):
            parent.poll(None)  # nothing is ever sent: it returns when the other end is closed
        os._exit(1)

    os.environ.update(environment)
    threading.Thread(target=end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError):  # no more calls
        while True:
            function, argument = calls.recv()
            calls.send(function(argument))
