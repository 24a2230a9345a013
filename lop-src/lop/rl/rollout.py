"""Acting: rollouts into preallocated buffers, and the minibatches made of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lop.nets.actor_critic import PolicyAndValue
from lop.nets.policies import Policy
from lop.rl.gae import advantages
from lop.rl.normalise import RunningScale
from lop.rl.ppo import Minibatch, Rollout
from lop.utils.seeding import make_generator


class Rollouts:
    """Acts with a net's policy in the stream's environments and hands out what the update needs.

    Everything that changes between two updates is in `state_dict`.
    """

    def __init__(self, stream, net: PolicyAndValue, seed: int):
        self.net, self.pool, self.settings = net, stream.pool, stream.ppo
        self.steps, self.num_envs = self.settings.rollout_steps // len(self.pool.envs), len(self.pool.envs)
        self.device = next(net.parameters()).device
        # environments live on the CPU, and a single observation is not worth a trip to another device
        self._actor = net.policy if self.device.type == "cpu" else copy.deepcopy(net.policy).cpu()
        shape = (self.steps, self.num_envs)
        self._observations = np.empty((self.steps + 1, self.num_envs, *self.pool.observation_shape), np.float32)
        self._noise_shape = (*shape, stream.num_outputs)
        discrete = net.actions == "discrete"
        self._actions = np.empty(shape, np.int64) if discrete else np.empty(self._noise_shape, np.float32)
        self._rewards = np.empty(shape)
        self._terminated, self._truncated = np.empty(shape, bool), np.empty(shape, bool)
        self._noise = make_generator(seed, "rl", "noise")
        self._order = make_generator(seed, "rl", "order")
        size = math.prod(self.pool.observation_shape)
        self._scale_observations = RunningScale(size) if self.settings.normalise_observations else None
        self._scale_rewards = RunningScale(1) if self.settings.normalise_rewards else None
        self._discounted = np.zeros(self.num_envs)  # returns so far, whose scale normalises the rewards

    def collect(self) -> tuple[Tensor, Rollout]:
        """One rollout: observations (rollout_steps, ...) and the rest, on the net's device, steps in order of time."""
        cut = self._act()
        everything = torch.from_numpy(self._observations.reshape(-1, *self.pool.observation_shape))
        observations, transitions = self._prepare(everything.to(self.device), cut)
        minibatches = partial(self.minibatches, observations, transitions)
        return observations, Rollout(transitions, self.pool.take_finished(), minibatches)

    def _act(self) -> list[tuple[int, int, np.ndarray]]:
        """Fill the buffers; returns (step, env, last observation) of the episodes that the time limit cut."""
        if self._actor is not self.net.policy:
            self._actor.load_state_dict(self.net.policy.state_dict())
        pool, actions, cut = self.pool, self._actions, []
        # without the modules' own calling machinery, which costs as much as the layers of a single observation
        layers = [layer.forward for layer in (*self._actor.body, self._actor.head)]
        with torch.inference_mode():
            noise = self.net.draw_noise(self._noise_shape, self._noise)
            for t in range(self.steps):
                observations = self._observations[t]
                observations[...] = self._seen(pool.observations)
                x = torch.from_numpy(observations)
                for layer in layers:
                    x = layer(x)
                actions[t] = self.net.chosen(x.add_(noise[t])).numpy()
                pool.step(actions[t])
                self._rewards[t] = self._rewarded(pool)
                self._terminated[t], self._truncated[t] = pool.terminated, pool.truncated
                cut += [(t, i, self._seen(pool.final_observations[i])) for i in pool.ended if pool.truncated[i]]
            self._observations[self.steps] = self._seen(pool.observations, learn=False)
        return cut

    @torch.inference_mode()
    def best_action(self, observation: np.ndarray) -> np.ndarray:
        """The policy's mean or most probable action, as the environment gets it: to look at it, not to learn.

        observation: of the environment itself. -> (num_actions,), or (), the number of a discrete one.

        Of the policy on the CPU as the last rollout had it, or as the net has it where that is on the CPU too.
        """
        x = self._seen(self.pool.observed(observation)[None].astype(np.float32), learn=False)
        return self.pool.executed(self.net.chosen(self._actor(torch.from_numpy(x)))[0].numpy())

    def _seen(self, observations: np.ndarray, learn: bool = True) -> np.ndarray:
        scale = self._scale_observations
        if scale is None:
            return observations
        if learn and observations.ndim == 2:
            scale.update(observations)
        return scale.normalise(observations)

    def _rewarded(self, pool) -> np.ndarray:
        if self._scale_rewards is None:
            return pool.rewards / self.settings.reward_scale
        self._discounted = self._discounted * self.settings.discount + pool.rewards
        self._scale_rewards.update(self._discounted[:, None])
        self._discounted[pool.terminated | pool.truncated] = 0
        return self._scale_rewards.rescale(pool.rewards) / self.settings.reward_scale

    @torch.no_grad()
    def _prepare(self, observations: Tensor, cut: list) -> tuple[Tensor, Minibatch]:
        """Values, log-probabilities and advantages, in one forward pass over the whole rollout."""
        of_policy, values = self.net.split(self.net(observations))
        count = self.steps * self.num_envs
        actions = torch.from_numpy(self._actions.reshape(count, *self._actions.shape[2:]).copy()).to(self.device)
        log_probs = self.net.distribution(of_policy[:count]).log_prob(actions)
        table = values.cpu().numpy().astype(np.float64).reshape(self.steps + 1, self.num_envs)
        next_values = np.where(self._terminated | self._truncated, 0.0, table[1:])
        if cut and not self.settings.time_limit_is_terminal:
            steps, envs, observed = zip(*cut, strict=True)
            last = torch.from_numpy(np.stack(observed)).to(self.device)
            next_values[list(steps), list(envs)] = self.net.split(self.net(last))[1].cpu().numpy()
        ended = self._terminated | self._truncated
        of_lambda = partial(advantages, self._rewards, table[:-1], next_values, ended, self.settings.discount)
        found = of_lambda(self.settings.gae_lambda)
        target_lambda = self.settings.target_lambda
        returns = (found if target_lambda is None else of_lambda(target_lambda)) + table[:-1]
        if self.settings.standardise_advantages and self.settings.standardise_over == "rollout":
            found = standardise(found)
        flat = [torch.from_numpy(a.reshape(-1)).float().to(self.device) for a in (found, returns, table[:-1])]
        return observations[:count].clone(), Minibatch(actions, log_probs, *flat)

    def minibatches(self, observations: Tensor, batch: Minibatch) -> Iterator[tuple[Tensor, Minibatch]]:
        """All gradient steps of one update: every epoch shows each transition once, in a fresh random order.

        With `target_kl`, no epoch begins once the policy has moved further than that from the rollout's.
        """
        settings, size = self.settings, len(observations) // self.settings.minibatches
        each_on_its_own = settings.standardise_advantages and settings.standardise_over == "minibatch"
        start = None if settings.target_kl is None else self._policy(observations)
        for epoch in range(settings.epochs):
            if start and epoch and start.kl(self._policy(observations)) > settings.target_kl:
                return
            order = torch.randperm(len(observations), generator=self._order).to(self.device)
            shuffled = [tensor[order].split(size) for tensor in (observations, *batch)]
            for x, *rest in zip(*shuffled, strict=True):
                y = Minibatch(*rest)
                yield x, y._replace(advantages=standardise(y.advantages)) if each_on_its_own else y

    @torch.no_grad()
    def _policy(self, observations: Tensor) -> Policy:
        """Of the net as it is now."""
        policy = self.net.distribution(self.net.policy(observations))
        return self.net.policy_kind(**{name: field.clone() for name, field in policy._asdict().items()})

    def state_dict(self) -> dict:
        scales = {"observations": self._scale_observations, "rewards": self._scale_rewards}
        return {
            "pool": self.pool.state_dict(),
            "noise": self._noise.get_state(),
            "order": self._order.get_state(),
            "scales": {name: scale.state_dict() for name, scale in scales.items() if scale},
            "discounted": torch.from_numpy(self._discounted.copy()),
        }

    def load_state_dict(self, state: dict) -> None:
        self.pool.load_state_dict(state["pool"])
        self._noise.set_state(state["noise"])
        self._order.set_state(state["order"])
        for name, scale in (("observations", self._scale_observations), ("rewards", self._scale_rewards)):
            if scale:
                scale.load_state_dict(state["scales"][name])
        self._discounted = state["discounted"].numpy().copy()


Values = TypeVar("Values", np.ndarray, Tensor)


def standardise(values: Values) -> Values:
    """Mean 0, standard deviation 1 (of the values themselves, not of what they are a sample of) over all entries."""
    centred = values - values.mean()
    return centred / ((centred**2).mean() ** 0.5 + 1e-8)
