"""A step-size schedule within each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lop.algos.base import Host, Intervention, intervention
from lop.utils.errors import UserError, shown
from lop.utils.ranges import POSITIVE, require
from lop.utils.state import State, Value


@intervention("step_schedule")
class StepSchedule(Intervention):
    """The step size is multiplied by `factor` at each of the epochs `milestones` of a task, and is back at the next.

    Every parameter group's lr. Incremental CIFAR-100 of Dohare et al. (2024): x 0.2 at epochs 60, 120 and 160.
    """

    state: ClassVar[State] = {"_base": Value()}

    def __init__(self, *, milestones: Sequence[int] = (60, 120, 160), factor: float = 0.2):
        self.milestones, self.factor = list(milestones), factor
        if self.milestones != sorted(set(milestones)) or any(epoch < 1 for epoch in milestones):
            raise UserError(f"must be increasing epochs >= 1, got {shown(self.milestones)}", option="milestones")
        require(POSITIVE, factor=factor)

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._base = [group["lr"] for group in host.optimizer.param_groups]

    def start_task(self, task) -> None:
        self._set(0)

    def start_epoch(self, task, epoch: int) -> None:
        self._set(sum(epoch >= milestone for milestone in self.milestones))

    def end_task(self, task) -> None:
        self._set(0)

    def _set(self, passed: int) -> None:
        for group, base in zip(self.host.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * self.factor**passed
