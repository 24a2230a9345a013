"""Continuous control as a benchmark: which environment, for how long, and PPO's settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lop.algos import Intervention
from lop.data.stream import Batch, Task, TaskStream
from lop.envs.pool import EnvPool
from lop.nets import ActorCritic
from lop.optimizers import ClosureOptimizer
from lop.rl.ppo import PPOLearner, Rollout
from lop.rl.recorder import PolicyRecorder
from lop.rl.rollout import Rollouts
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import AMOUNT, COUNT, COUNT_OR_ZERO, POSITIVE, SHARE, require, require_choice
from lop.utils.seeding import make_generator


@dataclass(frozen=True)
class ControlTask(Task):
    """A stretch of env steps; `epochs` counts its updates, each of one batch: a rollout (`batch_steps` env steps).

    The reference batch are observations of the task's first rollout.
    """

    stream: Control

    @property
    def batch_steps(self) -> int:
        return self.stream.rollout_steps

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Rollout]]:
        """One rollout: its observations (batch_steps, d), and what the update needs beside them."""
        if start == 0:
            yield self.stream.rollout()

    def reference(self, size: int) -> Batch:
        """The first `size` reference observations; there are no targets, so these are zero."""
        x = self.stream.reference(self.index)[:size]
        return x, x.new_zeros(len(x), self.stream.num_outputs + 1)

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        return iter(())


def make_ppo_learner(
    net: ActorCritic, optimizer: ClosureOptimizer, interventions: Sequence[Intervention], stream: Control, seed: int
) -> PPOLearner:
    """The learner of a benchmark of continuous control, whose policy acts in the stream's environments from now on."""
    stream.follow(net)
    weights = {"value_weight": stream.value_weight, "entropy_weight": stream.entropy_weight}
    clips = partial(PPOLearner, clip=stream.clip, value_clip=stream.value_clip)
    return clips(net, optimizer, interventions, **weights, seed=seed)


_control = partial(
    benchmark,
    family="rl",
    recorder=PolicyRecorder,
    net={"name": "actor_critic"},
    kind="control",
    learner=make_ppo_learner,
    optimizer="adam",
    plain="std",
    alike=False,
)


@_control("rl_ant", configs="cfg/ant", defaults={"env": "Ant-v5"})
@_control("rl_hopper", configs="cfg/hopper", defaults={"env": "Hopper-v5"})
@_control("rl_walker", configs="cfg/walker", defaults={"env": "Walker2d-v5"})
@_control(
    "rl_slippery_ant",
    configs="cfg/sant",
    defaults={"env": "Ant-v5", "num_tasks": 200, "friction_every": 2_000_000},
)
class Control(TaskStream):
    """PPO on one MuJoCo environment, cut into `num_tasks` tasks of `task_steps` env steps.

    At the ends of tasks come the diagnostics and the interventions that act at task ends (the spectral ones).

    env: an id of Gymnasium, e.g. Ant-v5 or Ant-v4. num_envs: copies stepped together; env_threads: in so many
    threads. time_limit: steps per episode; None: the environment's own; 0: none.
    friction_every: env steps between changes of the sliding friction, log-uniform in [friction_low,
    friction_high]; None: the world stays as it is.

    rollout_steps: env steps per update, of all copies together; epochs: passes over them, each in a fresh random
    order; minibatches: gradient steps per pass. discount, gae_lambda: of the advantages (Schulman 2016).
    clip: of the probability ratio; value_weight, entropy_weight: of these parts of the loss (Schulman 2017).
    value_clip: distance from the rollout's value beyond which a value's error no longer falls; None: no limit.
    target_kl: no further pass over a rollout begins once the policy is further than that from the one that acted
    (mean KL divergence over the rollout's observations); None: always `epochs` passes.
    standardise_advantages: to mean 0, variance 1, over the whole rollout or over each minibatch on its own, as
    standardise_over says. time_limit_is_terminal: treat the time limit
    as a terminal state, as much published code does, instead of bootstrapping from the last observation's value.
    clip_actions: the environment gets the action clipped to its bounds; the policy's density is of the action
    before clipping. normalise_observations, normalise_rewards: by running statistics (off in the papers here).
    """

    loss = "mse"

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        env: str = "Ant-v5",
        num_tasks: int = 100,
        task_steps: int = 100_000,
        num_envs: int = 1,
        env_threads: int = 1,
        time_limit: int | None = None,
        friction_every: int | None = None,
        friction_low: float = 0.02,
        friction_high: float = 2.0,
        rollout_steps: int = 2048,
        epochs: int = 10,
        minibatches: int = 16,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        value_clip: float | None = None,
        target_kl: float | None = None,
        value_weight: float = 1.0,
        entropy_weight: float = 0.0,
        standardise_advantages: bool = True,
        standardise_over: Literal["rollout", "minibatch"] = "rollout",
        time_limit_is_terminal: bool = False,
        clip_actions: bool = True,
        normalise_observations: bool = False,
        normalise_rewards: bool = False,
    ):
        counts = {"num_tasks": num_tasks, "num_envs": num_envs, "env_threads": env_threads, "epochs": epochs}
        require(COUNT, **counts, minibatches=minibatches, friction_every=friction_every, rollout_steps=rollout_steps)
        require(COUNT_OR_ZERO, time_limit=time_limit)
        require(SHARE, discount=discount, gae_lambda=gae_lambda)
        require(AMOUNT, value_weight=value_weight, entropy_weight=entropy_weight)
        require(POSITIVE, clip=clip, value_clip=value_clip, target_kl=target_kl)
        if not 0 < friction_low <= friction_high < math.inf:
            raise UserError(
                f"must be in (0, friction_high = {friction_high}], got {friction_low}", option="friction_low"
            )
        if rollout_steps % num_envs or rollout_steps % minibatches:
            multiple = f"a multiple of num_envs = {num_envs} and minibatches = {minibatches}"
            raise UserError(f"must be {multiple}, got {rollout_steps}", option="rollout_steps")
        require_choice(("rollout", "minibatch"), standardise_over=standardise_over)
        counted = minibatches if standardise_over == "minibatch" else 1
        if standardise_advantages and rollout_steps == counted:
            raise UserError(f"needs more than one step per {standardise_over}", option="standardise_advantages")
        if task_steps < rollout_steps:
            raise UserError(f"must be >= rollout_steps = {rollout_steps}, got {task_steps}", option="task_steps")
        self.seed, self.num_tasks, self.task_steps = seed, num_tasks, task_steps
        self.rollout_steps, self.epochs, self.minibatches = rollout_steps, epochs, minibatches
        self.discount, self.gae_lambda, self.clip = discount, gae_lambda, clip
        self.value_clip, self.target_kl = value_clip, target_kl
        self.value_weight, self.entropy_weight = value_weight, entropy_weight
        self.standardise_advantages, self.standardise_over = standardise_advantages, standardise_over
        self.time_limit_is_terminal = time_limit_is_terminal
        self.normalise_observations, self.normalise_rewards = normalise_observations, normalise_rewards
        slippery = None
        if friction_every is not None:
            slippery = {"change_every": friction_every, "low": friction_low, "high": friction_high}
        self.pool = EnvPool(
            env,
            num_envs,
            seed=seed,
            threads=env_threads,
            time_limit=time_limit,
            slippery=slippery,
            clip_actions=clip_actions,
        )
        self._rollouts: Rollouts | None = None
        self._collected: tuple[Tensor, Rollout] | None = None  # a task's first rollout, until its update
        self._reference: tuple[int, Tensor] | None = None  # of which task, observations in random order
        self.total_steps = self.updates_before(num_tasks) * rollout_steps
        self.input_shape, self.num_outputs = (self.pool.observation_size,), self.pool.num_actions
        changing = f", friction changed every {friction_every:,} steps" if slippery else ""
        self.data_description = f"{env} (Gymnasium, MuJoCo), {num_envs} at a time{changing}"

    def updates_before(self, k: int) -> int:
        """Updates before task k begins: a task ends with the update that reaches its last env step."""
        return math.ceil(k * self.task_steps / self.rollout_steps)

    def task(self, k: int) -> ControlTask:
        return ControlTask(
            index=k,
            active=None,
            epochs=self.updates_before(k + 1) - self.updates_before(k),
            steps_per_epoch=1,
            batch_size=self.rollout_steps,
            stream=self,
        )

    def follow(self, net: ActorCritic) -> None:
        """Rollouts are made by this net's policy."""
        self._rollouts = Rollouts(self, net, self.seed)

    @property
    def rollouts(self) -> Rollouts:
        """Raises RuntimeError where no policy acts yet."""
        if self._rollouts is None:
            raise RuntimeError("no policy acts in these environments yet: call follow(net)")
        return self._rollouts

    def rollout(self) -> tuple[Tensor, Rollout]:
        """The next one."""
        collected, self._collected = self._collected, None
        return self.rollouts.collect() if collected is None else collected

    def reference(self, k: int) -> Tensor:
        """The observations of task k's first rollout, in random order; collects it if k has just begun."""
        if self._reference is None or self._reference[0] != k:
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
