"""Several environments, stepped together into preallocated arrays."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from lop.envs.make import find_spec, make_env, make_world, require_continuous_control
from lop.envs.physics import get_state, set_state
from lop.utils.errors import UserError
from lop.utils.seeding import derive_seed


class Pool:
    """`envs`, stepped together; an episode that ends is reset at once, and the time limit is counted here.

    seeds: of the first reset of each. threads: step them in so many threads (MuJoCo releases the interpreter's lock
    while it simulates); the result does not depend on it. time_limit: steps per episode; inf: none. observation_shape:
    of what `observed` makes of an observation. A subclass says what actions are and how states are kept.
    """

    def __init__(
        self, envs: Sequence[Any], *, seeds: Sequence[int], threads: int, time_limit: float, observation_shape: tuple
    ):
        if threads > len(envs):
            raise UserError(f"must be <= num_envs = {len(envs)}, got {threads}", option="env_threads")
        self.envs, self.time_limit, self.observation_shape = list(envs), time_limit, observation_shape
        num_envs = len(self.envs)
        self._groups = [range(i, num_envs, threads) for i in range(threads)]
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self.observations = np.zeros((num_envs, *observation_shape), dtype=np.float32)
        self.rewards = np.zeros(num_envs)
        self.terminated = np.zeros(num_envs, dtype=bool)
        self.truncated = np.zeros(num_envs, dtype=bool)
        self.ended: list[int] = []  # copies whose episode ended with the last step
        self.final_observations: list[np.ndarray | None] = [None] * num_envs
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.returns = np.zeros(num_envs)
        self.finished: list[tuple[float, int]] = []  # (return, length) of the episodes since `take_finished`
        for i, seed in enumerate(seeds):
            self.observations[i] = self.reset(i, seed)

    def reset(self, i: int, seed: int | None = None) -> np.ndarray:
        """Begin a new episode of copy i; returns its first observation, as the policy sees it."""
        return self.observed(self.envs[i].reset(seed=seed)[0])

    def observed(self, observation: np.ndarray) -> np.ndarray:
        """What the policy sees of an environment's observation."""
        return observation

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """What the environment gets of a policy's actions, of all copies (num_envs, ...) or of one."""
        return actions

    def filmed(self, size: int):
        """An environment to look at: `render` gives an image, where it can be chosen of size x size pixels."""
        raise NotImplementedError

    def make_alike(self, env) -> None:
        """After its first reset: the world of a filmed environment becomes that of the copies."""

    def step(self, actions: np.ndarray) -> None:
        """Step every copy; actions (num_envs, ...).

        Then `observations` are those to act on next (of the new episode, where one ended), `final_observations`
        the last ones of episodes that ended, and `rewards`, `terminated`, `truncated` what the step gave.
        """
        executed = self.executed(actions)
        if self._threads is None:
            self._step_group(self._groups[0], executed)
        else:
            for done in [self._threads.submit(self._step_group, group, executed) for group in self._groups]:
                done.result()
        self.ended = [i for i in range(len(self.envs)) if self.terminated[i] or self.truncated[i]]
        for i in self.ended:
            self.finished.append((float(self.returns[i]), int(self.lengths[i])))
            self.returns[i] = self.lengths[i] = 0

    def _step_group(self, group: range, actions: np.ndarray) -> None:
        for i in group:
            observation, reward, terminated, truncated, _ = self.envs[i].step(actions[i])
            self.lengths[i] += 1
            self.returns[i] += reward
            truncated = not terminated and (truncated or self.lengths[i] >= self.time_limit)
            self.rewards[i], self.terminated[i], self.truncated[i] = reward, terminated, truncated
            if terminated or truncated:
                self.final_observations[i] = self.observed(observation).astype(np.float32)
                self.observations[i] = self.reset(i)
            else:
                self.observations[i] = self.observed(observation)

    def take_finished(self) -> list[tuple[float, int]]:
        """(return, length) of the episodes that ended since the last call; undiscounted, raw rewards."""
        finished, self.finished = self.finished, []
        return finished

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        for env in self.envs:
            env.close()

    def get_states(self) -> list[Any]:
        """Of every copy, what makes it go on bit-identically."""
        raise NotImplementedError

    def set_states(self, states: Sequence[Any]) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict:
        return {
            "envs": self.get_states(),
            "observations": torch.from_numpy(self.observations.copy()),
            "lengths": self.lengths.tolist(),
            "returns": self.returns.tolist(),
            "finished": [list(episode) for episode in self.finished],
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on bit-identically."""
        self.set_states(state["envs"])
        self.observations[...] = state["observations"].numpy()
        self.lengths[...] = state["lengths"]
        self.returns[...] = state["returns"]
        self.finished = [tuple(episode) for episode in state["finished"]]


class EnvPool(Pool):
    """`num_envs` copies of a MuJoCo environment with continuous actions.

    time_limit: steps per episode; None: the environment's own; 0: none.
    slippery: options of SlipperyFriction, or None for a world that does not change; its `change_every` counts
    the steps of all copies together. clip_actions: to the bounds of the action space, before the environment gets them.

    Raises UserError for an unknown environment, for one that cannot be made and for one that is not a MuJoCo task
    with continuous actions.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        seed: int,
        threads: int = 1,
        time_limit: int | None = None,
        slippery: dict[str, Any] | None = None,
        clip_actions: bool = True,
    ):
        envs = [make_world(env_id, seed, num_envs, slippery) for _ in range(num_envs)]
        first = envs[0]
        require_continuous_control(first, env_id)
        self.env_id, self.num_actions = env_id, first.action_space.shape[0]
        self._low, self._high = first.action_space.low, first.action_space.high
        self._clip = clip_actions
        super().__init__(
            envs,
            seeds=[derive_seed(seed, "env", i) % 2**31 for i in range(num_envs)],
            threads=threads,
            time_limit=steps_per_episode(env_id, time_limit),
            observation_shape=first.observation_space.shape,
        )

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """What the environment gets of a policy's actions (..., num_actions)."""
        executed = np.minimum(np.maximum(actions, self._low), self._high) if self._clip else actions
        if not np.isfinite(executed).all():  # a diverged policy: the simulation must not follow it
            executed = np.nan_to_num(executed, nan=0.0, posinf=0.0, neginf=0.0)
        return executed

    @property
    def friction(self) -> float:
        """The sliding friction of the first copy's floor."""
        return float(self.envs[0].unwrapped.model.geom_friction[0, 0])

    def filmed(self, size: int):
        return make_env(self.env_id, render_mode="rgb_array", width=size, height=size)

    def make_alike(self, env) -> None:
        """After the reset, with which a slippery world draws a friction of its own."""
        env.unwrapped.model.geom_friction[...] = self.envs[0].unwrapped.model.geom_friction

    def get_states(self) -> list[dict]:
        return [get_state(env) for env in self.envs]

    def set_states(self, states: Sequence[dict]) -> None:
        for env, saved in zip(self.envs, states, strict=True):
            set_state(env, saved)


def steps_per_episode(env_id: str, time_limit: int | None) -> float:
    """time_limit: None: the environment's own; 0: none, as inf."""
    own = find_spec(env_id).max_episode_steps
    return (own if time_limit is None else time_limit) or float("inf")
