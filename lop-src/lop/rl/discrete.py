"""Discrete actions as benchmarks: small control whose observations change, and a chain of MinAtar's games."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch

from lop.envs.discrete import Change, DiscretePool, spaces_of
from lop.envs.make import make_env
from lop.rl.acting import ActingStream, control
from lop.rl.settings import PPOSettings
from lop.utils.errors import UserError
from lop.utils.ranges import AMOUNT, COUNT, COUNT_OR_ZERO, require, require_choice
from lop.utils.seeding import make_generator

SHIFTS = ("offset", "permutation", "none")
MINATAR = ("lop/SpaceInvaders-v0", "lop/Asterix-v0", "lop/Seaquest-v0")

_small = partial(control, net={"name": "discrete_actor_critic"}, plain="adam")


@_small("rl_cartpole", configs="cfg/cartpole", defaults={"env": "CartPole-v1"})
@_small("rl_acrobot", configs="cfg/acrobot", defaults={"env": "Acrobot-v1"})
@_small("rl_lunar_lander", configs="cfg/lunar_lander", defaults={"env": "LunarLander-v3"})
@control(
    "rl_minatar",
    configs="cfg/minatar",
    net={"name": "conv_actor_critic"},
    plain="adam",
    alike=False,
    defaults={
        "env": list(MINATAR),
        "num_tasks": 3,
        "task_steps": 2_000_000,
        "shift": "none",
        "channels": 10,
        "time_limit": 5000,
        "num_envs": 8,
        "rollout_steps": 1024,
        "epochs": 4,
        "minibatches": 4,
        "reward_scale": 1.0,
    },
)
class DiscreteControl(ActingStream):
    """PPO on small control tasks whose world changes with every task; episodes begin anew there.

    env: an id of Gymnasium with discrete actions, or a list of them, one per task in turn, that have the same actions
    and shape of observations. shift: what is done to the observations of a task, its level. "offset": a vector is
    added, zero in task 0, else N(0, shift_scale^2) per coordinate (Muppidi 2024; Tang 2025); "permutation": their
    coordinates are permuted, not in task 0; "none": nothing. Either is a pure function of the seed and the task.
    channels: images are padded with zeros to so many; None: as they are. num_envs: copies stepped one after the other.
    time_limit: steps per episode; None: the environment's own; 0: none. The others are those of
    `lop.rl.settings.PPOSettings`.

    Defaults: those of Tang et al. (2025), "Mitigating plasticity loss in continual reinforcement learning by reducing
    churn", whose rollouts of 800 steps make the iterations of Muppidi et al. (2024), "Fast TRAC", equally long.
    """

    actions = "discrete"
    pool: DiscretePool

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        env: str | list[str] = "CartPole-v1",
        num_tasks: int = 10,
        task_steps: int = 160_000,
        shift: Literal["offset", "permutation", "none"] = "offset",
        shift_scale: float = 2.0,
        channels: int | None = None,
        num_envs: int = 1,
        time_limit: int | None = 400,
        rollout_steps: int = 800,
        epochs: int = 5,
        minibatches: int = 25,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        target_lambda: float | None = 1.0,
        clip: float = 0.2,
        value_clip: float | None = None,
        target_kl: float | None = None,
        value_weight: float = 0.5,
        entropy_weight: float = 0.01,
        reward_scale: float = 20.0,
        standardise_advantages: bool = True,
        standardise_over: Literal["rollout", "minibatch"] = "rollout",
        time_limit_is_terminal: bool = False,
        normalise_observations: bool = False,
        normalise_rewards: bool = False,
    ):
        require(COUNT, num_tasks=num_tasks, num_envs=num_envs, channels=channels)
        require(COUNT_OR_ZERO, time_limit=time_limit)
        require(AMOUNT, shift_scale=shift_scale)
        require_choice(SHIFTS, shift=shift)
        ppo = PPOSettings(
            rollout_steps=rollout_steps,
            epochs=epochs,
            minibatches=minibatches,
            discount=discount,
            gae_lambda=gae_lambda,
            target_lambda=target_lambda,
            clip=clip,
            value_clip=value_clip,
            target_kl=target_kl,
            value_weight=value_weight,
            entropy_weight=entropy_weight,
            reward_scale=reward_scale,
            standardise_advantages=standardise_advantages,
            standardise_over=standardise_over,
            time_limit_is_terminal=time_limit_is_terminal,
            normalise_observations=normalise_observations,
            normalise_rewards=normalise_rewards,
        )
        ppo.require_whole(num_envs, task_steps)
        self.env_ids: Sequence[str] = [env] if isinstance(env, str) else list(env)
        if not self.env_ids:
            raise UserError("must name an environment, got []", option="env")
        self.shift, self.shift_scale = shift, shift_scale
        self.input_shape, self.num_outputs = _shared_spaces(self.env_ids, channels)
        if len(self.input_shape) == 3 and (shift != "none" or normalise_observations):
            option = "shift" if shift != "none" else "normalise_observations"
            raise UserError(f"is for observations that are vectors, {self.env_ids[0]} has images", option=option)
        pool = DiscretePool(self.env_ids[0], num_envs, seed=seed, time_limit=time_limit, channels=channels)
        super().__init__(seed, pool, ppo, num_tasks=num_tasks, task_steps=task_steps)
        self._world: int | None = None  # the task whose world it is
        changed = "" if shift == "none" else f", observations with an {shift} per task".replace("an p", "a p")
        self.data_description = f"{', '.join(self.env_ids)} (Gymnasium), {num_envs} at a time{changed}"

    def change(self, k: int) -> Change | None:
        """What is done to the observations of task k."""
        if self.shift == "none" or k == 0:
            return None
        generator, size = make_generator(self.seed, "rl", "shift", k), self.input_shape
        if self.shift == "permutation":
            order = torch.randperm(size[0], generator=generator).numpy()
            return lambda observation: observation[order]
        offset = (self.shift_scale * torch.randn(size, generator=generator)).numpy()
        return lambda observation: observation + offset

    def enter(self, k: int) -> None:
        if k != self._world:
            self.pool.enter(k, self.env_ids[k % len(self.env_ids)], self.change(k))
            self._world = k

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "world": self._world}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["world"] is not None:
            self.enter(state["world"])
        super().load_state_dict(state)


def _shared_spaces(env_ids: Sequence[str], channels: int | None) -> tuple[tuple[int, ...], int]:
    """Shape of the observations and number of actions, which are those of every environment.

    Raises UserError where two differ.
    """
    found = {}
    for env_id in dict.fromkeys(env_ids):
        env = make_env(env_id)
        found[env_id] = spaces_of(env, env_id, channels)
        env.close()
    first = env_ids[0]
    for env_id, (shape, actions) in found.items():
        if (shape, actions) != found[first]:
            raise UserError(
                f"{env_id} has observations {shape} and {actions} actions, {first} has {found[first][0]} and "
                f"{found[first][1]}: one net cannot play both (channels pads images)",
                option="env",
                joint=": ",
            )
    return found[first]
