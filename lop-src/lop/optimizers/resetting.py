"""State of an optimizer that can be forgotten, faded, or reset entry by entry: what interventions do to it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from lop.optimizers.entry_age import AGE_STATE, EntryRule, forget_ages, has_young, rejuvenate
from lop.optimizers.members import Members
from lop.optimizers.saving import SavedOptimizer
from lop.optimizers.young import young_entries
from lop.utils.state import Factor, State, fade_entries, per_member, renew_entries


class ResettableOptimizer(SavedOptimizer):
    """An optimizer whose state declares its kinds; forgetting, fading and resetting entries follow from them."""

    _clock_restarts: int

    members: Members | None = None
    """Of a stack of nets; None: a single net."""

    param_state: ClassVar[State] = {}
    """What `state[param]` holds, each with its kind: what `reset_entries`, `fade` and a stack of nets go by."""

    def declared(self, param: Tensor) -> State:
        """All that `state[param]` may hold."""
        return {**self.param_state, **AGE_STATE}

    @property
    def entry_names(self) -> tuple[str, ...]:
        """Names of what `state[param]` holds of each member of a stack its own."""
        return per_member(self.param_state)

    def _kept(self, name: str) -> dict:
        """What this instance keeps from step to step to be faster, and can do without: not saved, not copied."""
        return self.__dict__.setdefault(f"_kept_{name}", {})

    def _group_of(self, param: Tensor) -> dict[str, Any]:
        return next(group for group in self.param_groups if any(p is param for p in group["params"]))

    def forget(self) -> None:
        """As newly built: state, step counts, schedules; the options of the groups stay, and the generator goes on."""
        self.state.clear()
        self.steps, self.young = 0, False
        for name in [name for name in vars(self) if name.startswith("_kept_")]:
            delattr(self, name)

    def restart_clock(self) -> None:
        """Step counts begin anew, of recently reset entries, too; moments stay: bias corrections are a first step's."""
        for state in self.state.values():
            if "step" in state:
                state["step"] = torch.zeros_like(state["step"]) if isinstance(state["step"], Tensor) else 0
            forget_ages(state)
        self._clock_restarts += 1

    @torch.no_grad()
    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        """Some entries of a parameter (those of a unit that was replaced) behave as newly built ones.

        mask: bool, broadcastable to `param.shape`; True: reset. Their state starts again, and so does the count of
        steps that their bias corrections follow from (see `lop.optimizers.entry_age`).
        """
        state = self.state.get(param)
        if not state:
            return
        group, declared = self._group_of(param), self.declared(param)
        renew_entries(param, state, declared, mask, group)
        if any(isinstance(kind, Factor) for kind in declared.values()):
            self._renew_factors(param, mask.expand(param.shape))
        rule = self._entry_rule(group)
        if rule is not None:
            horizon = rule.horizon(*(group[name] for name in rule.options))
            rejuvenate(state, param, mask, horizon, self._old_after(horizon))
            self.young = True

    def _renew_factors(self, param: Tensor, mask: Tensor) -> None:
        """The slices of a parameter all of whose entries are reset restart in its factors. mask: of its shape."""
        raise NotImplementedError

    def _entry_rule(self, group: dict[str, Any]) -> EntryRule | None:
        """How the update of an entry depends on its age; None: not at all."""
        return None

    def _old_after(self, horizon: int | None) -> int:
        """The number of its parameter's steps after which an entry that is reset now is old."""
        return sys.maxsize if horizon is None else horizon + 1

    @contextmanager
    def _aging(self, params: list[Tensor], grads: list[Tensor], *, counts: bool = True) -> Iterator[None]:
        """Around the update of the parameters: recently reset entries move as their own age says.

        counts: whether entries that have not made a step yet begin with this one.
        """
        if not self.young:
            yield
            return
        kept, groups, states = self._kept("young"), self.param_groups, self.state
        if self.members is not None:
            groups, params, grads, states = self.members.young(groups, params, grads)
        young = list(young_entries(groups, self._entry_rule, params, grads, states, kept))
        yield
        for entries in young:
            entries.finish(self._kept("coefficients"), counts=counts)
        self.young = has_young(states.values())
        if not self.young:
            kept.clear()

    @torch.no_grad()
    def fade(self, factor: float) -> None:
        """Scale all running moments by `factor` (after an intervention that changed the weights as a whole)."""
        for param, held in [(param, held) for param, held in self.state.items() if held]:
            fade_entries(held, self.declared(param), factor)
            if not held:
                del self.state[param]
