"""From an environment's name to the environment, or to one line that says why it cannot be used here."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from lop.envs.slippery import CHANGE_EVERY, ENTRY_POINT, SlipperyFriction, load_gymnasium
from lop.utils.errors import UserError, near_matches
from lop.utils.seeding import derive_seed


def find_spec(env_id: str):
    """What Gymnasium knows of `Name-v0`, or of `module:Name-v0`, whose module registers it when it is imported.

    Raises UserError for a module that cannot be imported and for a name that nobody registered.
    """
    gymnasium = load_gymnasium(mujoco=False)
    module, _, name = env_id.rpartition(":")
    if ":" in env_id:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever the module does
            raise UserError(
                f"env: the module of {env_id!r} cannot be imported ({_reason(error)}); install it or put its folder "
                f"on PYTHONPATH"
            ) from error
    if name not in gymnasium.registry:
        known = [known for known in gymnasium.registry if "-v" in known]
        raise UserError(f"unknown environment {env_id!r}; {near_matches(name, known)}", option="env", joint=": ")
    return gymnasium.registry[name]


def make_env(env_id: str, **options):
    """One environment without Gymnasium's checker and time limit; options go to its constructor.

    Raises UserError for an unknown name, and with the reason for one that cannot be made here.
    """
    gymnasium, spec = load_gymnasium(mujoco=False), find_spec(env_id)
    try:
        return gymnasium.make(spec, max_episode_steps=-1, disable_env_checker=True, **options)
    except UserError:
        raise
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        newest = gymnasium.envs.registration.find_highest_version(spec.namespace, spec.name)
        other = f", or choose {spec.name}-v{newest}" if newest is not None and newest != spec.version else ""
        raise UserError(
            f"{env_id} needs what is not installed ({_reason(error)}); install it{other}", option="env", joint=": "
        ) from error
    except Exception as error:  # whatever a constructor does
        raise UserError(f"{env_id} cannot be made ({_reason(error)})", option="env", joint=": ") from error


def make_world(env_id: str, seed: int, num_envs: int, slippery: dict[str, Any] | None):
    """One of `num_envs` copies that live in the same world: one friction schedule, of the run's seed, for all.

    slippery: options of SlipperyFriction, its `change_every` in steps of all copies together; None: as the
    environment is by itself, which may be a slippery one.
    """
    load_gymnasium()  # with MuJoCo
    by_name = find_spec(env_id).entry_point == ENTRY_POINT
    if slippery is None and not by_name:
        return make_env(env_id)
    options = {"change_every": CHANGE_EVERY, **(slippery or {}), "seed": derive_seed(seed, "slippery")}
    options["change_every"] = max(1, options["change_every"] // num_envs)
    return make_env(env_id, **options) if by_name else SlipperyFriction(make_env(env_id), **options)


def require_continuous_control(env, env_id: str) -> None:
    """Raises UserError unless observations and actions are vectors of real numbers and MuJoCo simulates."""
    spaces = load_gymnasium().spaces
    if isinstance(env.action_space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise UserError(
            f"{env_id} has discrete actions ({env.action_space}); choose one with continuous actions",
            option="env",
            joint=": ",
        )
    for name, space in (("actions", env.action_space), ("observations", env.observation_space)):
        if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            kind = f"{space.dtype} numbers of shape {space.shape}" if isinstance(space, spaces.Box) else str(space)
            raise UserError(
                f"{env_id} has {name} that are not vectors of real numbers: {kind}", option="env", joint=": "
            )
        if len(space.shape) != 1:
            raise UserError(
                f"{env_id} has {name} of shape {space.shape}; they must be vectors", option="env", joint=": "
            )
    if not (hasattr(env.unwrapped, "model") and hasattr(env.unwrapped, "data")):
        raise UserError(
            f"{env_id} is not a MuJoCo environment, whose state a stopped run could keep", option="env", joint=": "
        )


def require_discrete_control(env, env_id: str, channels: int | None) -> None:
    """Raises UserError unless an action is one of a number, and observations are vectors or images of real numbers.

    channels: as many as an image may have; None: any number.
    """
    spaces = load_gymnasium(mujoco=False).spaces
    actions, seen = env.action_space, env.observation_space
    if not isinstance(actions, spaces.Discrete) or actions.start != 0:
        raise UserError(
            f"{env_id} has actions {actions}; choose one whose action is one of n", option="env", joint=": "
        )
    if not isinstance(seen, spaces.Box) or len(seen.shape) not in (1, 3):
        raise UserError(
            f"{env_id} has observations {seen}; they must be vectors or images (h, w, c)", option="env", joint=": "
        )
    if channels is not None and len(seen.shape) == 3 and seen.shape[2] > channels:
        raise UserError(f"must be >= the {seen.shape[2]} of {env_id}, got {channels}", option="channels")


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
