"""PPO's settings, checked once for all streams that it acts in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lop.utils.errors import UserError
from lop.utils.ranges import AMOUNT, COUNT, POSITIVE, SHARE, require, require_choice


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """PPO's options in a config, by the names that they have there.

    rollout_steps: env steps per update, of all copies together; epochs: passes over them, each in a fresh random
    order; minibatches: gradient steps per pass. discount, gae_lambda: of the advantages (Schulman 2016).
    target_lambda: of the values' targets; None: that of the advantages; 1: sums of discounted rewards.
    clip: of the probability ratio; value_weight, entropy_weight: of these parts of the loss (Schulman 2017).
    value_clip: distance from the rollout's value beyond which a value's error no longer falls; None: no limit.
    target_kl: no further pass over a rollout begins once the policy is further than that from the one that acted
    (mean KL divergence over the rollout's observations); None: always `epochs` passes.
    standardise_advantages: to mean 0, variance 1, over the whole rollout or over each minibatch on its own, as
    standardise_over says. time_limit_is_terminal: treat the time limit as a terminal state, as much published code
    does, instead of bootstrapping from the last observation's value. normalise_observations, normalise_rewards: by
    running statistics (off in the papers here). reward_scale: rewards are divided by it before PPO sees them.

    Raises UserError, naming the option, for values that cannot be.
    """

    rollout_steps: int
    epochs: int
    minibatches: int
    discount: float
    gae_lambda: float
    clip: float
    value_clip: float | None
    target_kl: float | None
    value_weight: float
    entropy_weight: float
    standardise_advantages: bool
    standardise_over: Literal["rollout", "minibatch"]
    time_limit_is_terminal: bool
    normalise_observations: bool
    normalise_rewards: bool
    target_lambda: float | None = None
    reward_scale: float = 1.0

    def __post_init__(self):
        require(COUNT, epochs=self.epochs, minibatches=self.minibatches, rollout_steps=self.rollout_steps)
        require(SHARE, discount=self.discount, gae_lambda=self.gae_lambda, target_lambda=self.target_lambda)
        require(AMOUNT, value_weight=self.value_weight, entropy_weight=self.entropy_weight)
        require(POSITIVE, clip=self.clip, value_clip=self.value_clip, target_kl=self.target_kl)
        require(POSITIVE, reward_scale=self.reward_scale)
        require_choice(("rollout", "minibatch"), standardise_over=self.standardise_over)
        counted = self.minibatches if self.standardise_over == "minibatch" else 1
        if self.standardise_advantages and self.rollout_steps == counted:
            raise UserError(f"needs more than one step per {self.standardise_over}", option="standardise_advantages")

    def require_whole(self, num_envs: int, task_steps: int) -> None:
        """Raises UserError unless a rollout is whole steps of the copies and whole minibatches, and fits a task."""
        if self.rollout_steps % num_envs or self.rollout_steps % self.minibatches:
            multiple = f"a multiple of num_envs = {num_envs} and minibatches = {self.minibatches}"
            raise UserError(f"must be {multiple}, got {self.rollout_steps}", option="rollout_steps")
        if task_steps < self.rollout_steps:
            raise UserError(f"must be >= rollout_steps = {self.rollout_steps}, got {task_steps}", option="task_steps")
