"""The one loop: task after task, step after step, with diagnostics between them and checkpoints on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from lop.data.stream import Task, TaskStream
from lop.training.clock import Clock
from lop.training.learner import Learner
from lop.training.member import Member
from lop.training.progress import Progress

BINS_PER_TASK = 10

Status = Literal["finished", "interrupted", "diverged"]


@dataclass
class Position:
    """Where a run is: task, epoch in it, batch in that, and all steps so far as its tables count them."""

    task: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0


class Loop:
    """One pass over the stream, for one net or several that are trained as one (`members`, one of each).

    Everything that changes is in the members' checkpoints, so that it can stop and go on at any step.
    """

    def __init__(
        self,
        stream: TaskStream,
        learner: Learner,
        members: Sequence[Member],
        clock: Clock,
        progress: Progress | None = None,
    ):
        self.stream, self.learner, self.members = stream, learner, list(members)
        self.clock, self.progress = clock, progress
        self.position = Position()

    def train(self) -> Status:
        """Goes on to the end of the stream, or to where the clock or a divergence stops it."""
        for member in self.members:
            member.set_status("running", self.stream.data_description, self.position.task)
        status: Status = "finished"
        while self.position.task < self.stream.num_tasks:
            status = self._train_task(self.stream.task(self.position.task))
            if status != "finished":
                break
        self.save()
        for member in self.members:
            member.set_status(status, self.stream.data_description, self.position.task)
        if self.progress:
            self.progress.close()
        return status

    def _train_task(self, task: Task) -> Status:
        self._begin(task)
        position, bin_batches = self.position, self._bin_batches(task)
        while position.epoch < task.epochs:
            if position.step == 0:
                self.learner.start_epoch(task, position.epoch)
            for x, y in task.batches(position.epoch, position.step):
                result = self.learner.learn(x, y)
                for member in self.members:
                    member.recorder.record(result, y)
                position.step += 1
                position.total += task.batch_steps
                if self.members[0].recorder.pending == bin_batches and self._close_bin(task) == "stop":
                    return "diverged"
                if self.clock.stop_due():
                    return "interrupted"
                if self.clock.save_due(position.total):
                    self.save()
            self.learner.end_epoch(task, position.epoch)
            position.epoch += 1
            position.step = 0
        if self.members[0].recorder.pending and self._close_bin(task) == "stop":
            return "diverged"
        if self._end(task) == "stop":
            return "diverged"
        self.save()
        return "interrupted" if self.clock.stop_due() and position.task < self.stream.num_tasks else "finished"

    def _bin_batches(self, task: Task) -> int:
        return self.stream.bin_steps or math.ceil(task.epochs * task.steps_per_epoch / BINS_PER_TASK)

    def _begin(self, task: Task) -> None:
        if self.members[0].in_task:  # resumed in the middle of it
            self.learner.set_task(task)
        else:
            self.learner.start_task(task)
        for member in self.members:
            member.begin(task)

    def _close_bin(self, task: Task) -> str | None:
        """Returns what to do about a divergence: "stop" once every member is told to."""
        actions = [member.close_bin(task, self.position.total) for member in self.members]
        if self.progress:
            shown = self.members[0].recorder.performance
            self.progress.update(task.index, self.stream.num_tasks, self.position.total, self._all_steps(task), shown)
        return "stop" if all(action == "stop" for action in actions) else None

    def _all_steps(self, task: Task) -> int:
        """Of the whole run, as far as can be told from the tasks so far."""
        known = self.stream.total_steps
        if known is not None:
            return known
        position, length = self.position, task.epochs * task.steps_per_epoch
        before = position.total // task.batch_steps - position.epoch * task.steps_per_epoch - position.step
        return (before + (self.stream.num_tasks - task.index) * length) * task.batch_steps

    def _end(self, task: Task) -> str | None:
        """The task's last diagnostics are of the weights that the method hands in, before it prepares the next task."""
        self.learner.hand_in(task)
        actions = [member.end(task, self.position.total) for member in self.members]
        self.learner.end_task(task)
        self.position = Position(task.index + 1, 0, 0, self.position.total)
        return "stop" if all(action == "stop" for action in actions) else None

    def save(self) -> None:
        """Write every member's checkpoint."""
        with self.clock.saving(self.position.total):
            shared = {"position": asdict(self.position), "stream": self.stream.state_dict()}
            for member in self.members:
                member.save(shared, self.stream.fingerprint)

    def restore(self) -> None:
        """Go on from the members' checkpoints, where there are any; else start with empty tables."""
        states = [member.restore(self.stream.fingerprint) for member in self.members]
        if (state := states[0]) is not None:
            self.position = Position(**state["position"])
            self.stream.load_state_dict(state["stream"])
            self.clock.resumed(self.position.total)
