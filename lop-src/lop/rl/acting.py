"""What all streams of control have in common: tasks are stretches of env steps, batches are rollouts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lop.algos import Intervention
from lop.data.stream import Batch, Task, TaskStream
from lop.envs.pool import Pool
from lop.nets import PolicyAndValue
from lop.optimizers import ClosureOptimizer
from lop.rl.ppo import PPOLearner, Rollout
from lop.rl.recorder import PolicyRecorder
from lop.rl.rollout import Rollouts
from lop.rl.settings import PPOSettings
from lop.training.benchmark import benchmark
from lop.utils.seeding import make_generator


@dataclass(frozen=True)
class ControlTask(Task):
    """A stretch of env steps; `epochs` counts its updates, each of one batch: a rollout (`batch_steps` env steps).

    The reference batch are observations of the task's first rollout.
    """

    stream: ActingStream

    @property
    def batch_steps(self) -> int:
        return self.stream.ppo.rollout_steps

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Rollout]]:
        """One rollout: its observations (batch_steps, ...), and what the update needs beside them."""
        if start == 0:
            yield self.stream.rollout(self.index)

    def reference(self, size: int) -> Batch:
        """The first `size` reference observations; there are no targets, so these are zero."""
        x = self.stream.reference(self.index)[:size]
        return x, x.new_zeros(len(x), self.stream.num_outputs + 1)

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        return iter(())


class ActingStream(TaskStream):
    """PPO in a pool of environments, cut into tasks of `task_steps` env steps.

    A subclass makes the pool and says what it is in its `data_description`.
    """

    loss = "mse"

    def __init__(self, seed: int, pool: Pool, ppo: PPOSettings, *, num_tasks: int, task_steps: int):
        self.seed, self.pool, self.ppo = seed, pool, ppo
        self.num_tasks, self.task_steps = num_tasks, task_steps
        self._rollouts: Rollouts | None = None
        self._collected: tuple[Tensor, Rollout] | None = None  # a task's first rollout, until its update
        self._reference: tuple[int, Tensor] | None = None  # of which task, observations in random order
        self.total_steps = self.updates_before(num_tasks) * ppo.rollout_steps

    def updates_before(self, k: int) -> int:
        """Updates before task k begins: a task ends with the update that reaches its last env step."""
        return math.ceil(k * self.task_steps / self.ppo.rollout_steps)

    def task(self, k: int) -> ControlTask:
        return ControlTask(
            index=k,
            active=None,
            epochs=self.updates_before(k + 1) - self.updates_before(k),
            steps_per_epoch=1,
            batch_size=self.ppo.rollout_steps,
            stream=self,
        )

    def enter(self, k: int) -> None:
        """The world becomes that of task k, if it is another one than that of the task before."""

    def world(self) -> dict[str, float]:
        """What of the world changes, as columns of the tasks' table."""
        return {}

    def follow(self, net: PolicyAndValue) -> None:
        """Rollouts are made by this net's policy."""
        self._rollouts = Rollouts(self, net, self.seed)

    @property
    def rollouts(self) -> Rollouts:
        """Raises RuntimeError where no policy acts yet."""
        if self._rollouts is None:
            raise RuntimeError("no policy acts in these environments yet: call follow(net)")
        return self._rollouts

    def rollout(self, k: int) -> tuple[Tensor, Rollout]:
        """The next one of task k."""
        self.enter(k)
        collected, self._collected = self._collected, None
        return self.rollouts.collect() if collected is None else collected

    def reference(self, k: int) -> Tensor:
        """The observations of task k's first rollout, in random order; collects it if k has just begun."""
        if self._reference is None or self._reference[0] != k:
            self.enter(k)
            self._collected = self.rollouts.collect()
            observations = self._collected[0]
            order = torch.randperm(len(observations), generator=make_generator(self.seed, "rl", "reference", k))
            self._reference = k, observations[order.to(observations.device)]
        return self._reference[1]

    def state_dict(self) -> dict[str, Any]:
        """Between two updates."""
        return {"rollouts": self.rollouts.state_dict(), "reference": self._reference}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rollouts.load_state_dict(state["rollouts"])
        self._collected = None
        if state["reference"] is not None:
            k, observations = state["reference"]
            self._reference = k, observations.to(self.rollouts.device)


def make_ppo_learner(
    net: PolicyAndValue,
    optimizer: ClosureOptimizer,
    interventions: Sequence[Intervention],
    stream: ActingStream,
    seed: int,
) -> PPOLearner:
    """The learner of a benchmark of control, whose policy acts in the stream's environments from now on."""
    stream.follow(net)
    ppo = stream.ppo
    return PPOLearner(
        net,
        optimizer,
        interventions,
        clip=ppo.clip,
        value_clip=ppo.value_clip,
        value_weight=ppo.value_weight,
        entropy_weight=ppo.entropy_weight,
        seed=seed,
    )


control = partial(
    benchmark, family="rl", recorder=PolicyRecorder, kind="control", learner=make_ppo_learner, optimizer="adam"
)
"""Decorator of the benchmarks of control, as `lop.training.benchmark.benchmark`."""
