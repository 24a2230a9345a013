"""Benchmarks by name: a stream of tasks, and what a run of it needs beside the stream."""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lop.algos import Intervention
from lop.data.stream import TaskStream
from lop.nets import Net
from lop.optimizers import ClosureOptimizer
from lop.training.learner import Learner
from lop.training.online import OnlineRecorder
from lop.utils.registry import Registry

FAR_BELOW = 0.75
"""Times plain SGD's online accuracy: what is below has been set up wrongly, or is remarkable."""

SEARCHED_TASKS = 4
"""As many as the search of step sizes had at the most: a run of fewer is not held against it."""

LearnerFactory = Callable[[Net, ClosureOptimizer, Sequence[Intervention], TaskStream, int], Learner]
RecorderFactory = Callable[[Learner, TaskStream, int], OnlineRecorder]


def supervised_learner(
    net: Net, optimizer: ClosureOptimizer, interventions: Sequence[Intervention], stream: TaskStream, seed: int
) -> Learner:
    """What most benchmarks learn with."""
    return Learner(net, optimizer, interventions, loss=stream.loss, seed=seed)


def online_recorder(learner: Learner, stream: TaskStream, reference_size: int) -> OnlineRecorder:
    """Loss, and accuracy where there are classes."""
    return OnlineRecorder(stream.loss == "cross_entropy")


@dataclass(frozen=True)
class Benchmark:
    """stream: its class, called with (seed, data_dir, device, **options).

    family: the command of main.py. configs: folder with one config file per method, or None. defaults: options of this
    name that differ from the class's. net: the net section used where a config has none. kind: "supervised", or
    "control" for reinforcement learning, whose nets are actor-critics. learner: called with (net, optimizer,
    interventions, stream, seed). recorder: of online performance, called with (learner, stream, reference_size), the
    examples in the reference batch. optimizer: the default one, also the baseline. plain: the config in `configs` that
    has its settings for the benchmark's defaults. seeds: what a notebook trains where nobody says; several where that
    takes a minute. alike: whether all tasks are equally hard, so that a learner that gets worse has lost plasticity.
    """

    stream: type[TaskStream]
    family: str
    configs: Path | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    net: dict[str, Any] = field(default_factory=dict)
    kind: Literal["supervised", "control"] = "supervised"
    learner: LearnerFactory = supervised_learner
    recorder: RecorderFactory = online_recorder
    optimizer: str = "sgd"
    plain: str = "bp"
    seeds: str = "0"
    alike: bool = True

    def tuned(self, optimizer: str) -> dict[str, Any]:
        """The options that the search of step sizes found for an optimizer, from `optimizers.csv` among the configs."""
        row = self._searched().get(optimizer)
        return json.loads(row["options"]) if row else {}

    def _searched(self) -> dict[str, dict[str, str]]:
        path = self.configs / "optimizers.csv" if self.configs is not None else None
        if path is None or not path.exists():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            return {row["optimizer"]: row for row in csv.DictReader(file)}

    def below_sgd(self, optimizer: str, accuracies: Sequence[float]) -> str | None:
        """One line about a run whose mean online accuracy is far below plain SGD's in the search of step sizes.

        accuracies: online, of each task. None: it is not, or there is nothing to compare with.
        """
        sgd = self._searched().get("sgd")
        if sgd is None or optimizer == "sgd" or len(accuracies) < SEARCHED_TASKS:
            return None
        accuracy = statistics.fmean(accuracies)
        if not accuracy < FAR_BELOW * float(sgd["accuracy"]):
            return None
        return (
            f"online accuracy {accuracy:.1%} is far below plain SGD's {float(sgd['accuracy']):.1%} ({sgd['options']}, "
            "on a shortened stream): try other step sizes, --vary optimizer.lr=..."
        )

    @property
    def source(self) -> type[TaskStream]:
        """What was decorated: where the registry says the name is from."""
        return self.stream


BENCHMARKS: Registry[Benchmark] = Registry("benchmark")


def benchmark(name: str, *, family: str, configs: str | None = None, **facts: Any):
    """Decorator: `@benchmark("name", family="command of main.py", net={...})` on a TaskStream.

    configs: a folder, relative to the file that the class is defined in; facts: the other fields of a Benchmark.
    """

    def register(stream: type[TaskStream]) -> type[TaskStream]:
        file = getattr(sys.modules[stream.__module__], "__file__", None)  # a notebook's cells are in no file
        folder = Path(file).parent / configs if configs and file else None
        BENCHMARKS.add(name, Benchmark(stream, family, folder, **facts))
        return stream

    return register
