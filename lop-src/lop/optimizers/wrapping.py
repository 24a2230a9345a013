"""Optimizers around another one, `base`: schedulers, interventions and checkpoints see one object."""

from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from lop.optimizers.base import ClosureOptimizer, E
from lop.optimizers.members import Members
from lop.utils.state import State


class WrappingOptimizer(ClosureOptimizer[E]):
    """Groups, state and defaults are those of `base`, any torch optimizer, added groups and loaded state included.

    model: the net, where there is one. shared: options of every optimizer.
    """

    base: Optimizer

    def __init__(self, base: Optimizer, model: nn.Module | None, **shared: Any):
        super().__init__(base.param_groups, {}, **shared)
        self.model = model
        self.base = base
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if hasattr(self, "base"):
            self.base.add_param_group(param_group)
        else:  # being built, from the base's groups
            Optimizer.add_param_group(self, param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()


class DelegatingOptimizer(WrappingOptimizer[E]):
    """Around an optimizer of this package, which does everything but the step itself: it forgets, resets entries,
    fades, saves itself, and draws the probes."""

    base: ClosureOptimizer

    def __init__(self, base: ClosureOptimizer, **shared: Any):
        super().__init__(base, base.model, **shared)

    def _share(self) -> None:
        super()._share()
        self.generator = self.base.generator

    @property
    def steps(self) -> int:
        return self.base.steps

    @steps.setter
    def steps(self, value: int) -> None:
        if "base" in vars(self):  # else it is being built, and the base has just been
            self.base.steps = value

    @property
    def young(self) -> bool:
        return self.base.young

    @young.setter
    def young(self, value: bool) -> None:
        if "base" in vars(self):
            self.base.young = value

    @property
    def stackable(self) -> bool:
        return self.base.stackable

    def declared(self, param: Tensor) -> State:
        return self.base.declared(param)

    @property
    def entry_names(self) -> tuple[str, ...]:
        return self.base.entry_names

    @property
    def options_apart(self) -> bool:
        return self.base.options_apart

    def for_members(self, members: Members) -> None:
        super().for_members(members)
        self.base.for_members(members.of([cast("DelegatingOptimizer", own).base for own in members.optimizers]))

    def forget(self) -> None:
        super().forget()
        self.base.forget()

    def restart_clock(self) -> None:
        self.base.restart_clock()
        self._clock_restarts += 1

    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        self.base.reset_entries(param, mask)

    def fade(self, factor: float) -> None:
        self.base.fade(factor)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()
