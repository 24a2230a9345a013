"""Processes of their own for calls, which end with the process that asked for them, however that ends."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any


class WorkerDiedError(Exception):
    """A process ended before it could answer."""


class Workers:
    """Calls in new processes (a context manager). Every one of them ends when `end` is called, or when this one dies.

    This process holds one end of a pipe, and the system closes it whatever ends the process: SIGKILL, too. The others
    wait at the other end. What they start sees to its own end: a Jupyter kernel looks for its parent every second.
    """

    def __init__(self) -> None:
        self._context = get_context("spawn")  # a copy of this process would hold the pipe open
        self._watched, self._held = self._context.Pipe(duplex=False)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc) -> None:
        self.end()
        self._watched.close()

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """function(argument), both of which can be pickled. Raises WorkerDiedError when there is no answer."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(function, argument, sender, self._watched))
        process.start()
        sender.close()  # the process has its own; the last one closed is the end of what can be received
        try:
            return receiver.recv()
        except EOFError:
            raise WorkerDiedError from None
        finally:
            process.join()
            receiver.close()

    def end(self) -> None:
        """Stop every call that is still running."""
        self._held.close()


def _work(function: Callable[[Any], Any], argument: Any, answer: Connection, parent: Connection) -> None:
    def end_with_parent() -> None:
        with contextlib.suppress(OSError):
            parent.poll(None)  # nothing is ever sent: it returns when the other end is closed
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    answer.send(function(argument))
