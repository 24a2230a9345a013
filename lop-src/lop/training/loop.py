"""The one loop: task after task, step after step, with diagnostics between them and checkpoints on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from lop.data.stream import Batch, Task
from lop.training.clock import Clock
from lop.training.member import Member
from lop.training.population import Population
from lop.training.progress import Progress
from lop.utils.errors import UserError

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
    """One pass over the members' streams, which are of equal lengths, all members at the same place.

    members: one for each of the population's learners. Everything that changes is in the members' checkpoints, so that
    the loop can stop and go on at any step, with the same members or with others.
    """

    def __init__(
        self, population: Population, members: Sequence[Member], clock: Clock, progress: Progress | None = None
    ):
        self.population, self.clock, self.progress = population, clock, progress
        self.members = list(members)  # those still in training
        self.position = Position()
        self._tasks: list[Task] = []  # of the members, the current ones

    def train(self) -> list[str]:
        """Goes on to the end of the streams, or to where the clock or divergences stop it. Of each member, in order."""
        everyone = list(self.members)
        for member in everyone:
            member.set_status("running", self.position.task)
        if len(everyone) > 1 and self.position == Position():
            self.save()  # a kill in the middle of the next save then leaves all with one place in common
        status: Status | None = None
        while self.members and status is None:
            status = self._train_task() if self.position.task < self.members[0].stream.num_tasks else "finished"
        for member in list(self.members):
            self._leave(member, status or "finished")
        if self.progress:
            self.progress.close()
        return [member.status for member in everyone]

    def _leave(self, member: Member, status: Status) -> None:
        """Save this member for the last time."""
        with self.clock.saving(self.position.total):
            member.save(asdict(self.position))
        member.set_status(status, self.position.task)
        index = self.members.index(member)
        self.population.remove(index)
        del self.members[index], self._tasks[index : index + 1]

    def _train_task(self) -> Status | None:
        """Returns why the run stops; None: it goes on, with the next task or without the members that have left."""
        self._begin()
        position, first = self.position, self._tasks[0]
        bin_batches = self.members[0].stream.bin_steps or math.ceil(
            first.epochs * first.steps_per_epoch / BINS_PER_TASK
        )
        while position.epoch < first.epochs:
            if position.step == 0:
                self.population.start_epoch(self._tasks, position.epoch)
            for batches in self._batches():
                self._learn(batches)
                if self.members[0].recorder.pending == bin_batches and self._close_bin():
                    return None
                if self.clock.stop_due():
                    return "interrupted"
                if self.clock.save_due(position.total):
                    self.save()
            self.population.end_epoch(self._tasks, position.epoch)
            position.epoch += 1
            position.step = 0
        if self.members[0].recorder.pending and self._close_bin() and not self.members:
            return None
        self._end()
        if not self.members:
            return None
        self.save()
        return "interrupted" if self.clock.stop_due() and position.task < self.members[0].stream.num_tasks else None

    def _begin(self) -> None:
        self._tasks = [member.stream.task(self.position.task) for member in self.members]
        if self.members[0].in_task:  # resumed in the middle of it
            self.population.set_task(self._tasks)
        else:
            self.population.start_task(self._tasks)
        for member, task in zip(self.members, self._tasks, strict=True):
            member.begin(task)

    def _batches(self) -> Iterator[tuple[Batch, ...]]:
        """What is left of the epoch, one batch of each member at a time."""
        position = self.position
        return zip(*(task.batches(position.epoch, position.step) for task in self._tasks), strict=True)

    def _learn(self, batches: Sequence[Batch]) -> None:
        results = self.population.learn(batches)
        if self.position.total == 0:
            self._require_start()
        for member, task, result, batch in zip(self.members, self._tasks, results, batches, strict=True):
            member.record(task, result, *batch)
        self.position.step += 1
        self.position.total += self._tasks[0].batch_steps

    def _require_start(self) -> None:
        """One of many nets that its first step ruins is data; all of them are a mistake in the options they share."""
        learners = self.population.learners
        if all(learner.ruined_by_first_update for learner in learners):
            raise learners[0].first_update_error()

    def _close_bin(self) -> bool:
        """Returns whether a member has left, as its config says of a divergence."""
        pairs = zip(list(self.members), list(self._tasks), strict=True)
        stopped = [member for member, task in pairs if member.close_bin(task, self.position.total) == "stop"]
        if self.progress:
            task, shown = self._tasks[0], [member.recorder.performance for member in self.members]
            num_tasks = self.members[0].stream.num_tasks
            self.progress.update(task.index, num_tasks, self.position.total, self._all_steps(task), shown)
        for member in stopped:
            self._leave(member, "diverged")
        return bool(stopped)

    def _all_steps(self, task: Task) -> int:
        """Of the whole run, as far as can be told from the tasks so far."""
        position, stream, length = self.position, self.members[0].stream, task.epochs * task.steps_per_epoch
        if stream.total_steps is not None:
            return stream.total_steps
        before = position.total // task.batch_steps - position.epoch * task.steps_per_epoch - position.step
        return (before + (stream.num_tasks - task.index) * length) * task.batch_steps

    def _end(self) -> None:
        """The task's last diagnostics are of the weights that the method hands in, before it prepares the next task."""
        self.population.hand_in(self._tasks)
        pairs = zip(self.members, self._tasks, strict=True)
        stopped = [member for member, task in pairs if member.end(task, self.position.total) == "stop"]
        self.population.end_task(self._tasks)
        self.position = Position(self._tasks[0].index + 1, 0, 0, self.position.total)
        for member in stopped:
            self._leave(member, "diverged")

    def save(self) -> None:
        """Write every member's checkpoint."""
        with self.clock.saving(self.position.total):
            for member in self.members:
                member.save(asdict(self.position))

    def restore(self) -> None:
        """Go on from the members' checkpoints, where there are any; else start with empty tables.

        Raises UserError where the members are not all at the same place.
        """
        states = [member.restore() for member in self.members]
        places = [Position() if state is None else Position(**state["position"]) for state in states]
        if any(place != places[0] for place in places):
            raise UserError("the runs of a population must all be at the same place: train them one by one")
        self.position = places[0]
        self.clock.resumed(self.position.total)
