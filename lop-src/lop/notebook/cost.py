"""What a step costs, taken side by side: timings of runs of other days or under another load cannot be compared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from lop.config import Config
from lop.experiment import Experiment, build
from lop.runs import Results, read_config
from lop.training.benchmark import BENCHMARKS
from lop.utils.devices import kept_threads
from lop.utils.errors import UserError
from lop.viz.summary import relative_cost

SECONDS = 1.5  # for all learners together
ROUNDS = 5
BLOCK = (10, 100)  # steps in a row: as many as most methods need to renew their curvature, and no more than this


def costs(results: Results, baseline: str) -> pd.DataFrame | None:
    """Training time as a multiple of the baseline's, by label; None where no run is labelled so. Columns: cost,
    comparable, as of `relative_cost`.

    Where all runs were timed in one session under one load, that is what it says. Else plain steps of a new learner
    of each label are timed here, in turn. What cannot be timed so stays marked: reinforcement learning, where the
    environment takes the time, and nets whose steps take seconds.
    """
    if results.timing.empty or baseline not in set(results.timing["label"]):
        return None
    timed = relative_cost(results.timing, baseline)
    if timed["comparable"].all() or results.runs.empty:
        return timed
    chosen = results.runs.drop_duplicates("label").set_index("label")["folder"]
    seconds = step_seconds({label: read_config(Path(folder)) for label, folder in chosen.items()})
    if seconds is None:
        return timed
    return pd.DataFrame({"cost": seconds / seconds[baseline], "comparable": True})


def step_seconds(configs: Mapping[str, Config], seconds: float = SECONDS) -> pd.Series | None:
    """Seconds per step of a learner of each config, in its second task, by label: the median of a few blocks of steps,
    taken in turn, so that what else the machine does weighs on all alike.

    seconds: about how long to measure. None where steps take too long for that, data are missing, or a config is of
    reinforcement learning. Every learner has its own generators and the threads of its run; nothing is left behind.
    """
    if any(BENCHMARKS[config.benchmark.name].kind == "control" for config in configs.values()):
        return None
    with kept_threads():
        try:
            steppers = {label: Stepper(config) for label, config in configs.items()}
        except UserError:  # its data are gone, or it belongs to another machine
            return None
        once = sum(stepper.seconds(1) for stepper in steppers.values())
        block = min(int(seconds / ROUNDS / once), BLOCK[1])
        if block < BLOCK[0]:
            return None
        taken = [{label: stepper.seconds(block) for label, stepper in steppers.items()} for _ in range(ROUNDS)]
    return pd.Series({label: median(each[label] for each in taken) / block for label in steppers})


class Stepper:
    """A learner at the start of its second task (what gathers something in the first has it), ready to be timed."""

    def __init__(self, config: Config):
        self._parts: Experiment = build(config)
        self._threads = torch.get_num_threads()
        learner, task = self._parts.learner, self._parts.stream.task(0)
        self._batches = [batch for batch, _ in zip(task.batches(0, 0), range(BLOCK[1]), strict=False)]
        learner.start_task(task)
        learner.start_epoch(task, 0)
        self.seconds(2)
        learner.end_epoch(task, 0)
        learner.hand_in(task)
        learner.end_task(task)
        learner.start_task(task)
        learner.start_epoch(task, 0)
        self.seconds(2)

    def seconds(self, steps: int) -> float:
        """How long so many updates take."""
        torch.set_num_threads(self._threads)
        learner, batches = self._parts.learner, self._batches
        self._wait()
        start = time.perf_counter()
        for step in range(steps):
            learner.learn(*batches[step % len(batches)])
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self._parts.learner.device.type == "cuda":
            torch.cuda.synchronize()
