"""Continuous control as a benchmark: which environment, for how long, and PPO's settings."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch

from lop.envs.pool import EnvPool
from lop.rl import discrete  # noqa: F401  (registers the benchmarks with discrete actions)
from lop.rl.acting import ActingStream, control
from lop.rl.settings import PPOSettings
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, COUNT_OR_ZERO, require

_control = partial(control, net={"name": "actor_critic"}, plain="std", alike=False)


@_control("rl_ant", configs="cfg/ant", defaults={"env": "Ant-v5"})
@_control("rl_hopper", configs="cfg/hopper", defaults={"env": "Hopper-v5"})
@_control("rl_walker", configs="cfg/walker", defaults={"env": "Walker2d-v5"})
@_control(
    "rl_slippery_ant",
    configs="cfg/sant",
    defaults={"env": "Ant-v5", "num_tasks": 200, "friction_every": 2_000_000},
)
class Control(ActingStream):
    """PPO on one MuJoCo environment, cut into `num_tasks` tasks of `task_steps` env steps.

    At the ends of tasks come the diagnostics and the interventions that act at task ends (the spectral ones).

    env: an id of Gymnasium, e.g. Ant-v5 or Ant-v4. num_envs: copies stepped together; env_threads: in so many
    threads. time_limit: steps per episode; None: the environment's own; 0: none.
    friction_every: env steps between changes of the sliding friction, log-uniform in [friction_low,
    friction_high]; None: the world stays as it is.

    clip_actions: the environment gets the action clipped to its bounds; the policy's density is of the action
    before clipping. The others are those of `lop.rl.settings.PPOSettings`.
    """

    actions = "continuous"
    pool: EnvPool

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
        require(COUNT, num_tasks=num_tasks, num_envs=num_envs, env_threads=env_threads, friction_every=friction_every)
        require(COUNT_OR_ZERO, time_limit=time_limit)
        ppo = PPOSettings(
            rollout_steps=rollout_steps,
            epochs=epochs,
            minibatches=minibatches,
            discount=discount,
            gae_lambda=gae_lambda,
            clip=clip,
            value_clip=value_clip,
            target_kl=target_kl,
            value_weight=value_weight,
            entropy_weight=entropy_weight,
            standardise_advantages=standardise_advantages,
            standardise_over=standardise_over,
            time_limit_is_terminal=time_limit_is_terminal,
            normalise_observations=normalise_observations,
            normalise_rewards=normalise_rewards,
        )
        if not 0 < friction_low <= friction_high < math.inf:
            raise UserError(
                f"must be in (0, friction_high = {friction_high}], got {friction_low}", option="friction_low"
            )
        ppo.require_whole(num_envs, task_steps)
        slippery = None
        if friction_every is not None:
            slippery = {"change_every": friction_every, "low": friction_low, "high": friction_high}
        pool = EnvPool(
            env,
            num_envs,
            seed=seed,
            threads=env_threads,
            time_limit=time_limit,
            slippery=slippery,
            clip_actions=clip_actions,
        )
        super().__init__(seed, pool, ppo, num_tasks=num_tasks, task_steps=task_steps)
        self.input_shape, self.num_outputs = pool.observation_shape, pool.num_actions
        changing = f", friction changed every {friction_every:,} steps" if slippery else ""
        self.data_description = f"{env} (Gymnasium, MuJoCo), {num_envs} at a time{changing}"

    def world(self) -> dict[str, float]:
        return {"friction": self.pool.friction}
