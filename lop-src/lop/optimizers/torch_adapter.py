"""Gives every `torch.optim` class the closure protocol of this package."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lop.optimizers.base import Closure, ClosureOptimizer, own_attributes
from lop.optimizers.options import check_values
from lop.utils.errors import UserError

# Classes whose fused kernel does the same arithmetic in one pass over the memory, on the CPU and the GPU.
_FUSED = (torch.optim.Adam, torch.optim.AdamW)

# Per-entry state that is no running average of gradients: step sizes (Rprop), averaged parameters (ASGD).
_NOT_MOMENTS = ("step", "step_size", "ax")


class AdaptedOptimizer(ClosureOptimizer):
    """A `torch.optim` optimizer (or one with the same interface) behind `step(closure)`, forward only.

    optimizer_class: e.g. `torch.optim.AdamW`. hyperparameters: its own, unchanged; Adam and AdamW use torch's fused
    kernel unless `fused` or `foreach` is given. The wrapped optimizer is `base`.
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        optimizer_class: type[Optimizer],
        max_grad_norm: float | None = None,
        seed: int = 0,
        **hyperparameters: Any,
    ):
        check_values(hyperparameters)
        super().__init__(model_or_params, {}, max_grad_norm=max_grad_norm, seed=seed)
        if optimizer_class in _FUSED and not {"fused", "foreach", "differentiable"} & set(hyperparameters):
            hyperparameters["fused"] = all(p.is_floating_point() for g in self.param_groups for p in g["params"])
        try:
            self.base = optimizer_class(self.param_groups, **hyperparameters)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{optimizer_class.__name__}: {error}") from error
        self._share()

    def _share(self) -> None:
        """Groups and state are those of the wrapped optimizer: schedulers and interventions see one object."""
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        check_values(param_group)
        if hasattr(self, "base"):
            self.base.add_param_group(param_group)
        else:
            Optimizer.add_param_group(self, param_group)

    def _step(self, closure: Closure) -> Tensor:
        losses: list[Tensor] = []
        reached: list[Tensor] = []

        def forget_gradients() -> None:
            for p in reached:
                p.grad = None
            reached.clear()

        def differentiated() -> Tensor:
            """What the wrapped optimizer expects of a closure: the loss, and gradients in `.grad`."""
            forget_gradients()
            with torch.no_grad():
                if losses:
                    with self._frozen_statistics():
                        loss, params, grads = self._differentiate(closure)
                else:
                    loss, params, grads = self._differentiate(closure)
                for p, g in zip(params, self._clipped(grads), strict=True):
                    p.grad = g
            reached.extend(params)
            losses.append(loss)
            return loss

        try:
            self.base.step(differentiated)
        finally:
            forget_gradients()
        return losses[0]

    @torch.no_grad()
    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        """As in the base class. Rprop's step sizes restart at lr; L-BFGS forgets everything, as its history is of
        all parameters together."""
        if isinstance(self.base, torch.optim.LBFGS):
            self.state.clear()
            return
        super().reset_entries(param, mask)
        state = self.state.get(param, {})
        if "step_size" in state:
            lr = next(g["lr"] for g in self.param_groups if any(p is param for p in g["params"]))
            state["step_size"].masked_fill_(mask, lr)

    @torch.no_grad()
    def fade(self, factor: float) -> None:
        for param, state in self.state.items():
            for name, value in state.items():
                if name not in _NOT_MOMENTS and isinstance(value, Tensor) and value.shape == param.shape:
                    value.mul_(factor)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.base.load_state_dict(state_dict)
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_base_attributes": own_attributes(self.base)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({k: v for k, v in state.items() if k != "_base_attributes"})
        vars(self.base).update(state.get("_base_attributes", {}))
