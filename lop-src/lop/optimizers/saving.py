"""Saving, restoring and copying an optimizer: nothing that its next step depends on is lost or rounded."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lop.optimizers.entry_age import has_young
from lop.utils.seeding import make_generator
from lop.utils.state import generator_state, restore_generator

# What torch, its schedulers and a step keep on an optimizer instance; a copy builds its own.
_NOT_COPIED = ("_kept_", "_opt_called", "_optimizer_", "_zero_grad_profile_name", "_warned_capturable")


def own_attributes(optimizer: Optimizer) -> dict[str, Any]:
    """What a copy of an optimizer needs; torch's own copying keeps only the groups and the state.

    A scheduler wraps `step` of the instance: taken along, the copy's `step` would step the original.
    """
    attributes = vars(optimizer).items()
    return {k: v for k, v in attributes if not k.startswith(_NOT_COPIED) and k != "step"}


class SavedOptimizer(Optimizer):
    """A torch optimizer with a probe generator, a count of steps and attributes that its copies share the values of.

    A subclass sets `generator` (torch.Generator), `steps` (int) and `young` (bool, which follows from the state).
    """

    generator: torch.Generator
    steps: int
    young: bool

    def state_dict(self) -> dict[str, Any]:
        """As in torch, plus the number of steps and the state of the probe generator."""
        return super().state_dict() | {"steps": self.steps, "generator": generator_state(self.generator)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._load_own(state_dict)

    def _load_own(self, state_dict: dict[str, Any]) -> None:
        """What torch's own loading leaves out or rounds."""
        self._restore_dtypes(state_dict)
        self.steps, self.young = state_dict["steps"], has_young(self.state.values())
        restore_generator(self.generator, state_dict["generator"], "the generator of an optimizer's probes")

    def _restore_dtypes(self, state_dict: dict[str, Any]) -> None:
        """torch casts loaded state to the parameter's dtype; what was kept more precisely must stay so."""
        ours = [p for group in self.param_groups for p in group["params"]]
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        for p, i in zip(ours, ids, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                self.state[p][name] = _like_saved(self.state[p][name], value)

    def __getstate__(self) -> dict[str, Any]:
        own = own_attributes(self)
        generator = own.pop("generator")
        return super().__getstate__() | own | {"_generator": (generator.device, generator.get_state())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "_generator" in state:
            device, values = state.pop("_generator")
            self.generator = make_generator(0, device=device)
            self.generator.set_state(values)
        super().__setstate__(state)


def _like_saved(loaded: Any, saved: Any) -> Any:
    """The loaded value where it has the saved one's dtypes, else the saved one on the loaded one's device."""
    if isinstance(saved, Tensor):
        return loaded if loaded.dtype == saved.dtype else saved.to(loaded.device)
    if isinstance(saved, dict):
        return {key: _like_saved(loaded[key], value) for key, value in saved.items()}
    return loaded
