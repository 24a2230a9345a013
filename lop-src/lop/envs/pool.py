"""Several copies of one environment, stepped together into preallocated arrays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from lop.envs.make import find_spec, make_world, require_continuous_control
from lop.envs.physics import get_state, set_state
from lop.utils.errors import UserError
from lop.utils.seeding import derive_seed


class EnvPool:
    """`num_envs` copies; an episode that ends is reset at once, and the time limit is counted here.

    threads: step the copies in so many threads (MuJoCo releases the interpreter's lock while it simulates); the
    result does not depend on it. time_limit: steps per episode; None: the environment's own; 0: none.
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
        if threads > num_envs:
            raise UserError(f"must be <= num_envs = {num_envs}, got {threads}", option="env_threads")
        self.envs = [make_world(env_id, seed, num_envs, slippery) for _ in range(num_envs)]
        first = self.envs[0]
        require_continuous_control(first, env_id)
        own_limit = find_spec(env_id).max_episode_steps
        self.time_limit = (own_limit if time_limit is None else time_limit) or float("inf")
        self.observation_size = first.observation_space.shape[0]
        self.num_actions = first.action_space.shape[0]
        self._low, self._high = first.action_space.low, first.action_space.high
        self._clip = clip_actions
        self._groups = [range(i, num_envs, threads) for i in range(threads)]
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self.observations = np.zeros((num_envs, self.observation_size), dtype=np.float32)
        self.rewards = np.zeros(num_envs)
        self.terminated = np.zeros(num_envs, dtype=bool)
        self.truncated = np.zeros(num_envs, dtype=bool)
        self.ended: list[int] = []  # copies whose episode ended with the last step
        self.final_observations: list[np.ndarray | None] = [None] * num_envs
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.returns = np.zeros(num_envs)
        self.finished: list[tuple[float, int]] = []  # (return, length) of the episodes since `take_finished`
        for i, env in enumerate(self.envs):
            self.observations[i] = env.reset(seed=derive_seed(seed, "env", i) % 2**31)[0]

    def step(self, actions: np.ndarray) -> None:
        """Step every copy; actions (num_envs, num_actions).

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

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """What the environment gets of a policy's actions (..., num_actions)."""
        executed = np.minimum(np.maximum(actions, self._low), self._high) if self._clip else actions
        if not np.isfinite(executed).all():  # a diverged policy: the simulation must not follow it
            executed = np.nan_to_num(executed, nan=0.0, posinf=0.0, neginf=0.0)
        return executed

    def _step_group(self, group: range, actions: np.ndarray) -> None:
        for i in group:
            observation, reward, terminated, truncated, _ = self.envs[i].step(actions[i])
            self.lengths[i] += 1
            self.returns[i] += reward
            truncated = not terminated and (truncated or self.lengths[i] >= self.time_limit)
            self.rewards[i], self.terminated[i], self.truncated[i] = reward, terminated, truncated
            if terminated or truncated:
                self.final_observations[i] = observation.astype(np.float32)
                observation = self.envs[i].reset()[0]
            self.observations[i] = observation

    def take_finished(self) -> list[tuple[float, int]]:
        """(return, length) of the episodes that ended since the last call; undiscounted, raw rewards."""
        finished, self.finished = self.finished, []
        return finished

    @property
    def friction(self) -> float:
        """The sliding friction of the first copy's floor."""
        return float(self.envs[0].unwrapped.model.geom_friction[0, 0])

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        for env in self.envs:
            env.close()

    def state_dict(self) -> dict:
        return {
            "envs": [get_state(env) for env in self.envs],
            "observations": torch.from_numpy(self.observations.copy()),
            "lengths": self.lengths.tolist(),
            "returns": self.returns.tolist(),
            "finished": [list(episode) for episode in self.finished],
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on bit-identically."""
        for env, saved in zip(self.envs, state["envs"], strict=True):
            set_state(env, saved)
        self.observations[...] = state["observations"].numpy()
        self.lengths[...] = state["lengths"]
        self.returns[...] = state["returns"]
        self.finished = [tuple(episode) for episode in state["finished"]]
