"""Methods side by side: one in the notebook's process, with live progress, the others in processes beside it."""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from lop.config import Config
from lop.data.sources import sharing_images
from lop.executors.jobs import job_of, lost, train
from lop.executors.local import KILLED, cores
from lop.executors.progress import SECONDS, line_of, read_facts
from lop.executors.workers import WorkerDiedError, Workers
from lop.experiment import build, default_threads
from lop.runner import RunResult
from lop.runs import CHECKPOINTS, ENDED, load, read_status, run_folder_of
from lop.training.progress import PlainText, Progress, in_notebook, performance_text
from lop.training.stopping import StopRequest
from lop.utils.devices import find_device, kept_threads
from lop.utils.errors import UserError
from lop.utils.registry import foreign_modules

PATIENCE = 4.0  # seconds of training before another process, which has to import everything, is started

Method = tuple[str, Sequence[Config]]  # what it is called, its runs


def by_label(configs: Sequence[Config], labels: Sequence[str]) -> list[Method]:
    """Runs that follow each other under one label are of one method."""
    pairs = itertools.groupby(zip(labels, configs, strict=True), key=itemgetter(0))
    return [(label, [config for _, config in several]) for label, several in pairs]


def has_ended(config: Config) -> bool:
    """Whether there is nothing left to train."""
    return config.run.resume != "never" and read_status(run_folder_of(config)).get("state") in ENDED


def at_once(methods: Sequence[Method]) -> int:
    """How many of these methods are trained at the same time here; 1: one after the other.

    Several where each keeps one core of several busy: nets on the CPU that are computed by one thread, so that the
    numbers are the same either way. Only in a notebook's kernel, and where another process knows by import all that
    this one knows: nothing was registered in a cell.
    """
    left = [runs for _, runs in methods if not all(map(has_ended, runs))]
    count = min(len(left), cores())
    if count <= 1 or foreign_modules() or not in_notebook() or hasattr(sys.modules["__main__"], "__file__"):
        return 1
    with kept_threads(), sharing_images():
        return count if all(_one_thread(runs[0]) for runs in left) else 1


def _one_thread(config: Config) -> bool:
    if find_device(config.run.device).type != "cpu" or config.net.name.startswith("__main__:"):
        return False
    return (config.run.threads or default_threads(build(config).learner.net)) == 1


class SideBySide:
    """Methods, each for whoever is free next: this process, which asks with `take`, or one beside it.

    A context manager. Those beside it end when this process does, however it ends; their runs can be resumed. count:
    of methods that are trained at the same time. limited: the runs with the time limit that they have when they are
    begun; None: there is no time left to begin. found: what the others have trained, by the method's place.
    """

    def __init__(
        self, methods: Sequence[Method], count: int, limited: Callable[[Sequence[Config]], Sequence[Config] | None]
    ):
        self._methods, self._count, self._limited = methods, count, limited
        self._waiting, self._lock = deque(range(len(methods))), threading.Lock()
        self._over, self._stopped = threading.Event(), threading.Event()
        self._others: list[Future] = []
        self._facts: dict[int, dict[str, Any]] = {}
        self._displays: dict[int, Any] = {}
        self._shown = time.monotonic()
        self.found: dict[int, list[RunResult]] = {}

    def __enter__(self) -> SideBySide:
        self._folder = tempfile.TemporaryDirectory()  # of the others' progress
        self._workers = Workers()
        self._threads = ThreadPoolExecutor(max(1, self._count - 1))
        self._others = [self._threads.submit(self._beside) for _ in range(self._count - 1)]
        return self

    def __exit__(self, *exc) -> None:
        self._over.set()
        with self._workers:
            self._workers.end()
            self._threads.shutdown()
        self._folder.cleanup()

    def take(self) -> tuple[int, Sequence[Config]] | None:
        """The place of the next method, and its runs; None: all are taken, one has failed, or there is no time left."""
        with self._lock:
            if self._over.is_set() or not self._waiting:
                return None
            runs = self._limited(self._methods[self._waiting[0]][1])
            return None if runs is None else (self._waiting.popleft(), runs)

    def progress(self, place: int) -> Progress:
        """Of a method that is trained here: the others' come with it."""
        return _Watching(self._methods[place][0], self._show)

    def finish(self, stop: bool) -> str | None:
        """Wait for the others; why they were to stop, or None. stop: make them save what they have, and end.

        Raises UserError for what is wrong with one of them.
        """
        self._over.set()
        with StopRequest() as request:
            while wait(self._others, timeout=SECONDS / 4).not_done:
                if (stop or request.due()) and not self._stopped.is_set():
                    self._stopped.set()
                    self._workers.ask_to_stop()
                self._show()
        for other in self._others:
            other.result()
        for place, shown in self._displays.items():
            states = dict.fromkeys(result.status for result in self.found.get(place, []))
            shown.update(PlainText(self._line(place, ", ".join(states) or "not begun")))
        return request.reason

    def _beside(self) -> None:
        """One process, in a thread that waits for it."""
        if self._over.wait(PATIENCE):
            return
        try:
            while (turn := self.take()) is not None:
                self.found[turn[0]] = self._trained(*turn)
        except UserError:
            self._over.set()
            raise

    def _trained(self, place: int, runs: Sequence[Config]) -> list[RunResult]:
        folders = [run_folder_of(config) for config in runs]
        begun = [
            config.run.resume != "never" and any((folder / name).exists() for name in ("status.json", *CHECKPOINTS))
            for config, folder in zip(runs, folders, strict=True)
        ]
        job = job_of(runs, share=1 / self._count, progress=self._folder.name)
        job = replace(job, name=str(place))
        try:
            outcomes = self._workers.call(train, asdict(job))
        except WorkerDiedError:
            outcomes = lost(job, KILLED)
        found = []
        for folder, outcome, resumed in zip(folders, outcomes, begun, strict=True):
            state, reason = outcome.state, outcome.detail
            if state not in (*ENDED, "interrupted"):
                if not self._stopped.is_set():
                    raise UserError(reason)
                if not (folder / "config.json").exists():
                    continue  # stopped before it was begun
                state, reason = "interrupted", "stopped"
            tables = load(folder)
            found.append(RunResult(folder, state, tables.tasks, tables.layers, tables.online, resumed, reason or None))
        return found

    def _show(self) -> None:
        """A line for each of the others, now and then."""
        if time.monotonic() - self._shown < SECONDS:
            return
        self._shown = time.monotonic()
        for facts in read_facts(Path(self._folder.name)):
            place = int(facts["label"])
            self._facts[place] = facts
            text = PlainText(line_of(facts | {"label": self._label(place)}, time.time()))
            if place in self._displays:
                self._displays[place].update(text)
            else:
                from IPython.display import display

                self._displays[place] = display(text, display_id=True)

    def _line(self, place: int, state: str) -> str:
        facts = self._facts[place]
        runs = f"{facts['members']} runs, " if facts["members"] > 1 else ""
        value = "" if facts["value"] is None else f"{facts['what']} {performance_text(facts['what'], facts['value'])}, "
        return f"{self._label(place)}: {runs}task {facts['task']}/{facts['num_tasks']}, {value}{state}"

    def _label(self, place: int) -> str:
        return f"{self._methods[place][0]} (in a process beside)"


class _Watching(Progress):
    """Live progress with something else that is shown in turn."""

    def __init__(self, label: str, show: Callable[[], None]):
        super().__init__(label)
        self._also = show

    def update(self, *place: Any) -> None:
        super().update(*place)
        self._also()
