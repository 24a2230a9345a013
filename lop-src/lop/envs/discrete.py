"""Copies of an environment with discrete actions, whose state is kept as what led to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from lop.envs.make import make_env, require_discrete_control
from lop.envs.pool import Pool, steps_per_episode
from lop.utils.errors import UserError
from lop.utils.seeding import derive_seed

Change = Callable[[np.ndarray], np.ndarray]


def spaces_of(env, env_id: str, channels: int | None) -> tuple[tuple[int, ...], int]:
    """(shape of the observations as a policy sees them, number of actions).

    channels: images (h, w, c) become (channels, h, w), zeros behind theirs; None: as many as they have. Raises
    UserError for an environment that does not fit.
    """
    require_discrete_control(env, env_id, channels)
    shape = env.observation_space.shape
    if len(shape) == 3:
        shape = (channels or shape[2], *shape[:2])
    return shape, int(env.action_space.n)


class DiscretePool(Pool):
    """`num_envs` copies of an environment of Gymnasium with discrete actions, in world number 0.

    An episode is kept as the generator's state at its reset and the actions since, and goes on by doing them again:
    that is bit-identical for every environment whose episodes follow from these two, and asks nothing of its insides.
    time_limit: steps per episode; None: the environment's own; 0: none.
    channels: as `spaces_of` has it.
    change: what is done to an observation before the policy sees it: float32 in, float32 of the same shape out.

    Raises UserError for an unknown environment, for one that cannot be made and for one that does not fit.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        seed: int,
        time_limit: int | None = None,
        channels: int | None = None,
        change: Change | None = None,
    ):
        envs = [make_env(env_id) for _ in range(num_envs)]
        shape, self.num_actions = spaces_of(envs[0], env_id, channels)
        self.env_id, self.seed, self._limit, self._change = env_id, seed, time_limit, change
        self._starts: list[str] = [""] * num_envs  # each copy's generator before its last reset
        self._played: list[list[int]] = [[] for _ in range(num_envs)]
        seeds, limit = self._seeds(0, num_envs), steps_per_episode(env_id, time_limit)
        super().__init__(envs, seeds=seeds, threads=1, time_limit=limit, observation_shape=shape)

    def _seeds(self, k: int, num_envs: int) -> list[int]:
        return [derive_seed(self.seed, "env", k, i) % 2**31 for i in range(num_envs)]

    def enter(self, k: int, env_id: str, change: Change | None) -> None:
        """World number k: new episodes, of this environment and change; those that had not ended are forgotten.

        env_id: one with observations of the same shape and as many actions.
        """
        if env_id != self.env_id:
            self.close()
            self.envs = [make_env(env_id) for _ in self.envs]
            self.env_id, self.time_limit = env_id, steps_per_episode(env_id, self._limit)
        self._change = change
        self.lengths[...], self.returns[...], self.finished = 0, 0, []
        for i, seed in enumerate(self._seeds(k, len(self.envs))):
            self.observations[i] = self.reset(i, seed)

    def reset(self, i: int, seed: int | None = None) -> np.ndarray:
        base = self.envs[i].unwrapped
        if seed is not None:  # so that the generator is there before the episode begins
            base.np_random = np.random.default_rng(seed)
        self._starts[i] = json.dumps(base.np_random.bit_generator.state)
        self._played[i] = []
        return self.observed(self.envs[i].reset()[0])

    def observed(self, observation: np.ndarray) -> np.ndarray:
        seen = np.asarray(observation, np.float32)
        if len(self.observation_shape) == 3:
            own, seen = seen, np.zeros(self.observation_shape, np.float32)
            seen[: own.shape[2]] = own.transpose(2, 0, 1)
        return seen if self._change is None else self._change(seen)

    def step(self, actions: np.ndarray) -> None:
        """actions: (num_envs,), int64."""
        for played, action in zip(self._played, actions, strict=True):
            played.append(int(action))
        super().step(actions)

    def filmed(self, size: int):
        return make_env(self.env_id, render_mode="rgb_array")

    def get_states(self) -> list[dict]:
        pairs = zip(self._starts, self._played, strict=True)
        return [{"start": start, "played": torch.tensor(played, dtype=torch.int64)} for start, played in pairs]

    def set_states(self, states: Sequence[dict]) -> None:
        for i, saved in enumerate(states):
            env, played = self.envs[i], saved["played"].tolist()
            env.unwrapped.np_random.bit_generator.state = json.loads(saved["start"])
            observation = self.reset(i)
            for action in played:
                observation = self.observed(env.step(action)[0])
            self._played[i] = played
            self.observations[i] = observation

    def load_state_dict(self, state: dict) -> None:
        """Go on bit-identically. Raises UserError where the same actions lead somewhere else."""
        self.set_states(state["envs"])
        if not np.array_equal(self.observations, state["observations"].numpy()):
            raise UserError(
                f"{self.env_id}: the same actions lead elsewhere, so that a stopped run cannot go on (another version, "
                "or chance that is not np_random's?); start it anew in another run.results_dir",
                option="env",
                joint=": ",
            )
        super().load_state_dict(state)
