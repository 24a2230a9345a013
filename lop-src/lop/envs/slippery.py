"""A world whose floor changes: the friction of a MuJoCo model is redrawn again and again."""

from __future__ import annotations

import math
import os

import torch

from lop.utils.errors import UserError
from lop.utils.seeding import make_generator

try:
    import gymnasium
except ImportError:  # an optional extra: `load_gymnasium` says so to whoever needs it
    gymnasium = None

ROBOTS = ("Ant", "Hopper", "Walker2d")
VERSIONS = ("v5", "v4")


def load_gymnasium():
    """The module gymnasium. Raises UserError where it, or MuJoCo, is not installed."""
    missing = None if gymnasium is not None else "gymnasium"
    try:
        import mujoco  # noqa: F401
    except ImportError:
        missing = "mujoco"
    except Exception as error:  # it loads the renderer named in MUJOCO_GL, whether or not anything is rendered
        chosen = os.environ.get("MUJOCO_GL")
        raise UserError(f"mujoco cannot be loaded with MUJOCO_GL={chosen} ({error}); unset it") from None
    if missing:
        raise UserError(f'reinforcement learning needs the package {missing}: pip install "gymnasium[mujoco]"')
    return gymnasium


def friction(seed: int, k: int, low: float = 0.02, high: float = 2.0) -> float:
    """The k-th friction (k from 1): log-uniform in [low, high], a pure function of (seed, k)."""
    position = torch.rand((), dtype=torch.float64, generator=make_generator(seed, "friction", k)).item()
    return math.exp(math.log(low) + position * (math.log(high) - math.log(low)))


class SlipperyFriction(gymnasium.Wrapper if gymnasium else object):
    """Sets the sliding friction of every geom of the loaded MuJoCo model, in place.

    The model keeps its own friction at first; at the first episode end after every `change_every` steps a new
    one, `friction(seed, k, low, high)`, is set (SlipperyAnt, Dohare et al. 2024). The schedule depends on nothing
    but the number of steps; `reset(seed=...)` does not touch it.
    """

    def __init__(self, env, *, change_every: int = 2_000_000, low: float = 0.02, high: float = 2.0, seed: int = 0):
        super().__init__(env)
        if change_every < 1:
            raise UserError(f"change_every must be >= 1, got {change_every}")
        if not 0 < low <= high < math.inf:
            raise UserError(f"low and high must be 0 < low <= high, got {low} and {high}")
        self.change_every, self.low, self.high, self.schedule_seed = change_every, low, high, seed
        self.steps = self.changes = 0

    @property
    def friction(self) -> float:
        """The current sliding friction of the floor."""
        return float(self.unwrapped.model.geom_friction[0, 0])

    def step(self, action):
        self.steps += 1
        return self.env.step(action)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self._set(self.steps // self.change_every)
        return self.env.reset(seed=seed, options=options)

    def _set(self, k: int) -> None:
        if k != self.changes:
            self.unwrapped.model.geom_friction[:, 0] = friction(self.schedule_seed, k, self.low, self.high)
            self.changes = k

    def state_dict(self) -> dict:
        return {"steps": self.steps, "changes": self.changes}

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        self._set(state["changes"])


def make_slippery(
    base: str, *, change_every: int = 2_000_000, low: float = 0.02, high: float = 2.0, seed: int = 0, **options
):
    """The entry point of the registered environments: `base` with changing friction; options go to the base."""
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
                    entry_point="lop.envs.slippery:make_slippery",
                    max_episode_steps=gymnasium.spec(base).max_episode_steps,
                    kwargs={"base": base},
                )
