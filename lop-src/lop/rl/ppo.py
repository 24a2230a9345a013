"""Proximal policy optimization (Schulman 2017): the loss, written once, for any optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lop.algos import Intervention
from lop.nets import PolicyAndValue
from lop.optimizers import ClosureOptimizer
from lop.training.learner import Learner, StepResult


class Minibatch(NamedTuple):
    """What the loss needs beside the observations, one row per transition.

    actions: (batch, num_actions), before clipping, or the numbers of discrete ones, (batch,) int64. log_probs: of these
    under the policy that took them, (batch,).
    advantages, returns, and the values that the rollout's net gave: (batch,).
    """

    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor


@dataclass(frozen=True)
class Rollout:
    """What one update learns from, beside the observations.

    transitions: of the whole rollout. episodes: (undiscounted return, length) of those that ended in it. minibatches:
    called in the update, which it may end early (`target_kl`): all its steps, (observations, Minibatch) each.
    """

    transitions: Minibatch
    episodes: list[tuple[float, int]]
    minibatches: Callable[[], Iterator[tuple[Tensor, Minibatch]]]

    def __len__(self) -> int:
        return len(self.transitions.actions)


@dataclass(frozen=True)
class UpdateResult:
    """The minibatch steps of an update: the result of each, and its actions."""

    steps: list[StepResult]
    actions: list[Tensor]


def policy_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """The clipped surrogate objective, negated; all (batch,). -> ()."""
    ratio = (log_probs - old_log_probs).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def value_loss(values: Tensor, returns: Tensor, old_values: Tensor, clip: float | None) -> Tensor:
    """Mean squared error of the values; all (batch,). -> ().

    clip: None, or how far a value may move from the rollout's before its error counts as at that distance where this
    is the larger one (not in the paper; the authors' implementation has it: Engstrom 2020, "Implementation matters").
    """
    errors = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.max(errors, (near - returns).square())
    return errors.mean()


class PPOLearner(Learner):
    """A Learner whose batches are (observations, Rollout): every optimizer and intervention acts per minibatch.

    The loss is `policy_loss` + value_weight * `value_loss` - entropy_weight * entropy. To the diagnostics it is a
    regression: churn is the mean squared change of all outputs, mean actions (or logits) and values.
    """

    net: PolicyAndValue
    data_ahead = False  # they are collected by the policy that learns

    def __init__(
        self,
        net: PolicyAndValue,
        optimizer: ClosureOptimizer,
        interventions: Sequence[Intervention] = (),
        *,
        clip: float = 0.2,
        value_clip: float | None = None,
        value_weight: float = 1.0,
        entropy_weight: float = 0.0,
        seed: int = 0,
    ):
        super().__init__(net, optimizer, interventions, loss="mse", seed=seed)
        self.clip, self.value_clip = clip, value_clip
        self.value_weight, self.entropy_weight = value_weight, entropy_weight
        self._loss_function = self.ppo_loss
        self._rollout: Tensor | None = None
        self._policy_loss: Tensor | None = None

    def learn(self, x: Tensor, y: Rollout) -> UpdateResult:
        """One update: all minibatch steps on a rollout; x: its observations."""
        steps, actions = [], []
        self._rollout = x
        for observations, minibatch in y.minibatches():
            steps.append(self.learn_minibatch(observations, minibatch))
            actions.append(minibatch.actions)
        return UpdateResult(steps, actions)

    def learn_minibatch(self, x: Tensor, y: Minibatch) -> StepResult:
        """One gradient step."""
        self._last = (x, y)
        return super().learn(x, y)

    def rollout(self) -> Tensor | None:
        return self._rollout

    def policy_loss(self) -> Tensor | None:
        return self._policy_loss

    def labelled_batch(self, size: int) -> tuple[Tensor, Minibatch]:
        """The last minibatch: the loss needs the advantages and returns of transitions, which no task keeps."""
        return self._last

    def ppo_loss(self, outputs: Tensor, batch: Minibatch) -> Tensor:
        """outputs: of the net on the minibatch's observations. -> ()."""
        of_policy, values = self.net.split(outputs)
        policy = self.net.distribution(of_policy)
        loss = policy_loss(policy.log_prob(batch.actions), batch.log_probs, batch.advantages, self.clip)
        self._policy_loss = loss.detach()
        loss = loss + self.value_weight * value_loss(values, batch.returns, batch.values, self.value_clip)
        if self.entropy_weight:
            loss = loss - self.entropy_weight * policy.entropy()
        return loss
