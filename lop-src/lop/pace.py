"""How long runs take side by side: their first steps, timed."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import torch

from lop.config import Config
from lop.experiment import build
from lop.training.population import make_population


class TimedPopulation:
    """The learners of these runs at the start of their first tasks, as one population. Nothing is read or written but
    the data. Raises what building the runs raises."""

    def __init__(self, configs: Sequence[Config]):
        self._parts = [build(config) for config in configs]
        self._tasks = [part.stream.task(0) for part in self._parts]
        self._population = make_population([part.learner for part in self._parts])
        self._population.start_task(self._tasks)
        self._population.start_epoch(self._tasks, 0)
        self.stream = self._parts[0].stream

    @property
    def steps(self) -> int:
        """Of a whole run, in batches."""
        task = self._tasks[0]
        if self.stream.total_steps is not None:
            return math.ceil(self.stream.total_steps / task.batch_steps)
        return self.stream.num_tasks * task.epochs * task.steps_per_epoch

    def diagnostics_seconds(self) -> float:
        """Of one member in one task."""
        began = self._now()
        self._parts[0].dashboard.before(self._tasks[0])
        self._parts[0].dashboard.after(self._tasks[0])
        return self._now() - began

    def step_seconds(self, seconds: float, most: int) -> float:
        """Of one step of all: the mean over about so many seconds, at most so many steps, without the first one."""
        taken: list[float] = []
        began = self._now()
        for batch in zip(*(task.batches(0) for task in self._tasks), strict=True):
            self._population.learn(batch)
            now = self._now()
            taken.append(now - began)
            if sum(taken[1:]) >= seconds or len(taken) > most:
                break
            began = now
        return statistics.fmean(taken[1:] or taken)  # what is set up once (modules are imported) weighs little

    def _now(self) -> float:
        """When all that was asked of the device is done."""
        if self._parts[0].learner.device.type == "cuda":
            torch.cuda.synchronize(self._parts[0].learner.device)
        return time.perf_counter()
