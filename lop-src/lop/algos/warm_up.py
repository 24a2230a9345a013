"""A step size that grows from 0 within the first steps of each task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, OPEN_SHARE, require
from lop.utils.state import State, Value


@intervention("warm_up")
class WarmUp(Intervention):
    """In the k-th of a task's first n steps the step size is k/n of what it would be, in every parameter group.

    steps: n; None: `share` of the task's steps, at least one. What it would be may change meanwhile (`step_schedule`).
    A control: some published comparisons warm up for every method. Lee et al. (2024); Ash & Adams (2020) as in FIRE
    (2026), a tenth of each chunk. Cost: none; a population is trained one by one while the step sizes change.
    """

    state: ClassVar[State] = {"_done": Value(0), "_last": Value(0), "_full": Value(), "_set": Value()}
    _done: int  # steps of this task
    _last: int  # the last of them that is warmed up

    def __init__(self, *, steps: int | None = None, share: float = 0.1):
        require(COUNT, steps=steps)
        require(OPEN_SHARE, share=share)
        self.steps, self.share = steps, share

    def attach(self, host: Host) -> None:
        super().attach(host)
        if self.steps is None and not host.data_ahead:
            raise UserError("must be given here: how many steps an update makes is not known", option="steps")
        self._full: list[float] = [group["lr"] for group in host.optimizer.param_groups]
        self._set = list(self._full)  # what the groups have now

    def restart(self) -> None:
        super().restart()
        self._scale()

    def start_task(self, task) -> None:
        self._last = self.steps or max(1, math.ceil(self.share * task.epochs * task.steps_per_epoch))
        self._done = 0
        self._scale()

    def start_epoch(self, task, epoch: int) -> None:
        self._scale()

    def after_step(self, features: Sequence[Tensor]) -> None:
        self._done += 1
        if self._done <= self._last:
            self._scale()

    def end_task(self, task) -> None:
        self._done = self._last
        self._scale()

    def _scale(self) -> None:
        factor = min(1.0, (self._done + 1) / self._last) if self._last else 1.0
        for i, group in enumerate(self.host.optimizer.param_groups):
            if i == len(self._set):  # a group that another intervention has added
                self._full.append(group["lr"])
                self._set.append(group["lr"])
            if group["lr"] != self._set[i]:  # somebody else has chosen another one
                self._full[i] = group["lr"]
            group["lr"] = self._set[i] = self._full[i] * factor
