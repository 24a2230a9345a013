"""Learners that are trained side by side: at every step each learns from a batch of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lop.data.stream import Batch, Task
from lop.training.learner import Learner


class Population:
    """One learner after the other. A single run is a population of one.

    Whatever trains several learners as one computation has these methods, gives the same results within rounding, and
    keeps `learners` up to date: what is done between two steps (diagnostics, checkpoints) is done to them one by one.
    """

    def __init__(self, learners: Sequence[Learner]):
        self.learners = list(learners)

    def learn(self, batches: Sequence[Batch]) -> list[Any]:
        """One update of every learner on its batch; what `Learner.learn` returns, of each."""
        return [learner.learn(x, y) for learner, (x, y) in zip(self.learners, batches, strict=True)]

    def remove(self, index: int) -> None:
        """This learner is trained no further."""
        del self.learners[index]

    def set_task(self, tasks: Sequence[Task]) -> None:
        self._each("set_task", tasks)

    def start_task(self, tasks: Sequence[Task]) -> None:
        self._each("start_task", tasks)

    def start_epoch(self, tasks: Sequence[Task], epoch: int) -> None:
        self._each("start_epoch", tasks, epoch)

    def end_epoch(self, tasks: Sequence[Task], epoch: int) -> None:
        self._each("end_epoch", tasks, epoch)

    def hand_in(self, tasks: Sequence[Task]) -> None:
        self._each("hand_in", tasks)

    def end_task(self, tasks: Sequence[Task]) -> None:
        self._each("end_task", tasks)

    def _each(self, method: str, tasks: Sequence[Task], *more: int) -> None:
        """Call the method of that name of every learner with its own task."""
        for learner, task in zip(self.learners, tasks, strict=True):
            getattr(learner, method)(task, *more)
