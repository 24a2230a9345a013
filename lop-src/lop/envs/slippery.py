"""A world whose floor changes: the friction of a MuJoCo model is redrawn again and again."""

from __future__ import annotations

import importlib
import math
import os
from typing import Any

import torch

from lop.utils.errors import UserError
from lop.utils.seeding import make_generator

try:
    gymnasium: Any = importlib.import_module("gymnasium")
except ImportError:  # an optional extra: `load_gymnasium` says so to whoever needs it
    gymnasium = None

ROBOTS = ("Ant", "Hopper", "Walker2d")
VERSIONS = ("v5", "v4")
CHANGE_EVERY = 2_000_000  # steps, as published
ENTRY_POINT = "lop.envs.slippery:make_slippery"


def load_gymnasium(*, mujoco: bool = True):
    """The module gymnasium. Raises UserError where it is not installed or, if it is asked for, MuJoCo is not."""
    missing = None if gymnasium is not None else "gymnasium"
    if not mujoco:
        if missing:
            raise UserError('reinforcement learning needs the package gymnasium: pip install "lop[control]"')
        return gymnasium
    try:
        importlib.import_module("mujoco")
    except ImportError:
        missing = "mujoco"
    except Exception as error:  # it loads the renderer named in MUJOCO_GL, whether or not anything is rendered
        chosen = os.environ.get("MUJOCO_GL")
        raise UserError(f"mujoco cannot be loaded with MUJOCO_GL={chosen} ({error}); unset it") from None
    if missing:
        raise UserError(f'reinforcement learning needs the package {missing}: pip install "gymnasium[mujoco]"')
    return gymnasium


def friction(seed: int, k: int, low: float = 0.02, high: float = 2.0) -> float:
    """The friction of phase k, from 0: log-uniform in [low, high], a pure function of (seed, k)."""
    position = torch.rand((), dtype=torch.float64, generator=make_generator(seed, "friction", k)).item()
    return math.exp(math.log(low) + position * (math.log(high) - math.log(low)))


_Wrapper: Any = gymnasium.Wrapper if gymnasium else object


class SlipperyFriction(_Wrapper):
    """Sets the sliding friction of every geom of the loaded MuJoCo model, in place.

    The first reset sets `friction(seed, 0, low, high)`, and the first episode end after every `change_every` steps
    the next one (SlipperyAnt, Dohare et al. 2024): the schedule depends on the seed and the number of steps alone.

    seed: of the schedule, which no `reset` then touches, so that several copies can live in one world. None: the
    schedule follows from `reset(seed=...)`, each of which starts it anew, as it does everything else in a Gymnasium
    environment; without any, from the seed that the environment drew for itself.
    """

    def __init__(
        self, env, *, change_every: int = CHANGE_EVERY, low: float = 0.02, high: float = 2.0, seed: int | None = None
    ):
        super().__init__(env)
        if change_every < 1:
            raise UserError(f"must be >= 1, got {change_every}", option="change_every")
        if not 0 < low <= high < math.inf:
            raise UserError(f"low and high must be 0 < low <= high, got {low} and {high}")
        self.change_every, self.low, self.high = change_every, low, high
        self.schedule_seed: Any = seed  # None until a reset
        self._fixed = seed is not None
        self.steps, self.phase = 0, -1  # -1: not reset yet, the model has its own friction

    @property
    def friction(self) -> float:
        """The current sliding friction of the floor."""
        return float(self.unwrapped.model.geom_friction[0, 0])

    def step(self, action):
        self.steps += 1
        return self.env.step(action)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        if not self._fixed and (seed is not None or self.schedule_seed is None):
            self.schedule_seed = self.unwrapped.np_random_seed if seed is None else seed
            self.steps, self.phase = 0, -1
        self._enter(self.steps // self.change_every)
        return self.env.reset(seed=seed, options=options)

    def _enter(self, phase: int) -> None:
        if phase != self.phase:
            self.unwrapped.model.geom_friction[:, 0] = friction(self.schedule_seed, phase, self.low, self.high)
            self.phase = phase

    def state_dict(self) -> dict:
        return {"steps": self.steps, "phase": self.phase, "schedule_seed": self.schedule_seed}

    def load_state_dict(self, state: dict) -> None:
        self.steps, self.schedule_seed, self.phase = state["steps"], state["schedule_seed"], -1
        self._enter(state["phase"])


def make_slippery(
    base: str,
    *,
    change_every: int = CHANGE_EVERY,
    low: float = 0.02,
    high: float = 2.0,
    seed: int | None = None,
    **options,
):
    """The entry point of the registered environments: `base` with changing friction; options go to the base.

    change_every, low, high, seed: of SlipperyFriction.
    """
    env = load_gymnasium().make(base, max_episode_steps=-1, disable_env_checker=True, **options)
    return SlipperyFriction(env, change_every=change_every, low=low, high=high, seed=seed)


def register_all() -> None:
    """Register the slippery environments with Gymnasium, where it is installed."""
    if gymnasium is None:
        return
    for robot in ROBOTS:
        for version in VERSIONS:
            name, base = f"lop/Slippery{robot}-{version}", f"{robot}-{version}"
            if base in gymnasium.registry and name not in gymnasium.registry:
                gymnasium.register(
                    name,
                    entry_point=ENTRY_POINT,
                    max_episode_steps=gymnasium.spec(base).max_episode_steps,
                    kwargs={"base": base},
                )
