"""The whole state of a MuJoCo environment, read and restored so that it goes on bit-identically."""

from __future__ import annotations

import json

import numpy as np
import torch

# Arrays whose size depends on the contacts of the moment, or which only the next step writes: MuJoCo recomputes
# them from the integration state, and no environment reads them between two steps.
_TRANSIENT = ("efc_", "iefc_", "efm_", "island_", "iacc", "ifrc_", "map_", "flex", "bvh_", "plugin", "q", "wrap_")
_READ_BY_ENVIRONMENTS = ("qfrc_", "qacc")  # among those that start with q
_KEPT = tuple(np.dtype(kind) for kind in ("float64", "float32", "int64", "int32", "uint8", "bool"))


def get_state(env) -> dict:
    """Tensors, numbers and strings that hold the simulation, the environment's generator, what it keeps in attributes
    that are numbers, strings or arrays, and the states of wrappers (and an environment) that have a `state_dict`.

    Beside MuJoCo's integration state (which all that follows is a function of, warm starts included) it keeps the
    derived quantities: environments read positions and contact forces of the last substep, which the integration
    state alone would give only after another forward pass.
    """
    import mujoco

    base = env.unwrapped
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(base.model, kind))
    mujoco.mj_getState(base.model, base.data, integration, kind)
    derived = {name: torch.from_numpy(array.copy()) for name, array in _derived(base.data).items()}
    return {
        "integration": torch.from_numpy(integration),
        "derived": derived,
        "generator": json.dumps(base.np_random.bit_generator.state),
        "attributes": {name: _saved(value) for name, value in vars(base).items() if _plain(value)},
        "wrappers": [wrapper.state_dict() for wrapper in _stateful(env)],
    }


def set_state(env, state: dict) -> None:
    """Restore `get_state`. The environment must have been reset once."""
    import mujoco

    base = env.unwrapped
    mujoco.mj_setState(base.model, base.data, state["integration"].numpy(), mujoco.mjtState.mjSTATE_INTEGRATION)
    here = _derived(base.data)
    for name, value in state["derived"].items():
        # a newer MuJoCo may have dropped or added one
        if name in here and here[name].shape == value.shape:
            here[name][...] = value.numpy()
    base.np_random.bit_generator.state = json.loads(state["generator"])
    for name, value in state["attributes"].items():
        present = vars(base).get(name)
        if isinstance(value, torch.Tensor) and isinstance(present, np.ndarray) and present.shape == value.shape:
            present[...] = value.numpy()  # which may be a view of something else
        else:
            setattr(base, name, value.numpy().copy() if isinstance(value, torch.Tensor) else value)
    for wrapper, saved in zip(_stateful(env), state["wrappers"], strict=True):
        wrapper.load_state_dict(saved)


def _derived(data) -> dict[str, np.ndarray]:
    names = [n for n in dir(data) if not n.startswith("_")]
    names = [n for n in names if not n.startswith(_TRANSIENT) or n.startswith(_READ_BY_ENVIRONMENTS)]
    arrays = {name: getattr(data, name) for name in names}
    return {n: a for n, a in arrays.items() if isinstance(a, np.ndarray) and a.dtype == np.float64 and a.size}


def _plain(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype in _KEPT and value.flags.writeable
    return isinstance(value, bool | int | float | str | np.number | None)


def _saved(value):
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.item() if isinstance(value, np.number) else value


def _stateful(env) -> list:
    found = []
    while True:
        if hasattr(type(env), "load_state_dict"):
            found.append(env)
        if env is env.unwrapped:
            return found
        env = env.env
