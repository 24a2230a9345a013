"""Gives every `torch.optim` class the closure protocol of this package."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lop.optimizers.base import Closure, ClosureOptimizer, Pass
from lop.optimizers.entry_age import EntryRule
from lop.optimizers.options import check_values
from lop.optimizers.saving import own_attributes
from lop.optimizers.torch_state import TORCH_STATE, TorchState
from lop.utils.errors import UserError

# Classes whose fused kernel does the same arithmetic in one pass over the memory, on the CPU and the GPU.
_FUSED = (torch.optim.Adam, torch.optim.AdamW)

# What other libraries call averages of squared gradients that a step is divided by.
_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")


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
        self._of_torch = optimizer_class.__module__.partition(".")[0] == "torch"
        check_values(hyperparameters, foreign=not self._of_torch)
        super().__init__(model_or_params, {}, max_grad_norm=max_grad_norm, seed=seed)
        # None is torch's own default, which a config spells out
        chosen = any(hyperparameters.get(name) is not None for name in ("fused", "foreach"))
        if optimizer_class in _FUSED and not chosen and not hyperparameters.get("differentiable"):
            hyperparameters["fused"] = all(p.is_floating_point() for g in self.param_groups for p in g["params"])
        try:
            self.base = optimizer_class(self.param_groups, **hyperparameters)
        except Exception as error:  # another library's may want anything, e.g. the net, or a package of their own
            if self._of_torch and not isinstance(error, ValueError | TypeError | RuntimeError):
                raise
            raise UserError(f"{optimizer_class.__name__}: {_one_line(error)}") from error
        self.single_pass = optimizer_class is not torch.optim.LBFGS
        self._share()

    def _share(self) -> None:
        """Groups and state are those of the wrapped optimizer: schedulers and interventions see one object."""
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        check_values(param_group, foreign=not self._of_torch)
        if hasattr(self, "base"):
            self.base.add_param_group(param_group)
        else:
            Optimizer.add_param_group(self, param_group)

    def _step(self, closure: Closure) -> Tensor:
        if not self.single_pass:
            return self._line_search(closure)
        return super()._step(closure)

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        grads = self._clipped(params, grads)
        with self._aging(params, grads), self._gradients_set(params, grads):
            self._base_step()

    def _base_step(self) -> None:
        if isinstance(self.base, torch.optim.Adagrad):
            self._complete_adagrad()
        try:
            self.base.step()
        except Exception as error:
            if self._of_torch or self.steps:
                raise
            raise UserError(
                f"{type(self.base).__name__} cannot make a step from the gradients alone: {_one_line(error)}"
            ) from error

    def _complete_adagrad(self) -> None:
        """Older versions of torch make its state in the constructor only: not for parameters added later, not anew
        where an intervention has dropped it."""
        for group in self.param_groups:
            start = group["initial_accumulator_value"]
            for p in (p for p in group["params"] if not self.state.get(p)):
                self.state[p].update(step=torch.tensor(0.0), sum=torch.full_like(p, start))

    def _in_memory_order_of(self, param: Tensor, grad: Tensor) -> Tensor:
        """The gradient in the parameter's memory layout, which the fused kernels take for granted. The state, too."""
        if not param.is_contiguous():
            for name, value in self.state.get(param, {}).items():
                if isinstance(value, Tensor) and value.shape == param.shape and value.stride() != param.stride():
                    self.state[param][name] = torch.empty_like(param, dtype=value.dtype).copy_(value)
        return grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)

    @contextmanager
    def _gradients_set(self, params: list[Tensor], grads: list[Tensor]) -> Iterator[None]:
        """`.grad` holds the gradients, for the wrapped optimizer only."""
        try:
            fused = self.param_groups[0].get("fused")
            for p, g in zip(params, grads, strict=True):
                p.grad = self._in_memory_order_of(p, g) if fused else g
            yield
        finally:
            for p in params:
                p.grad = None

    def _line_search(self, closure: Closure) -> Tensor:
        """L-BFGS evaluates several points in a step, by itself; the first one is where the parameters are."""
        passes: list[Pass] = []

        def evaluated() -> Tensor:
            with torch.no_grad(), self._frozen_statistics() if passes else nullcontext():
                for p in passes[-1].params if passes else ():
                    p.grad = None
                passes.append(self._evaluate(closure))
                for p, g in zip(passes[-1].params, self._clipped(passes[-1].params, passes[-1].grads), strict=True):
                    p.grad = g
            return passes[-1].loss

        try:
            self.base.step(evaluated)
        finally:
            for p in passes[-1].params if passes else ():
                p.grad = None
        return passes[0].loss

    def forget(self) -> None:
        super().forget()
        if hasattr(self.base, "_numel_cache"):  # L-BFGS's, of the parameters it had
            self.base._numel_cache = None

    @torch.no_grad()
    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        """As in the base class. L-BFGS forgets everything, as its history is of all parameters together."""
        if isinstance(self.base, torch.optim.LBFGS):
            self.state.clear()
            return
        super().reset_entries(param, mask)

    def _entry_rule(self, group: dict[str, Any]) -> EntryRule | None:
        return self._kind.rule(group) if self._kind else None

    def _entry_starts(self, param: Tensor, state: dict[str, Any]) -> dict[str, float | Tensor]:
        kind, group = self._kind or _guessed(param, state), self._group_of(param)
        starts = {name: group[v] if isinstance(v, str) else v for name, v in kind.starts.items()}
        present = [name for name in kind.moments if isinstance(state.get(name), Tensor)]
        return {name: state[name].mean() if name in kind.typical else 0.0 for name in present} | starts

    @property
    def _kind(self) -> TorchState | None:
        """None: of another library, which says nothing of its state."""
        return TORCH_STATE.get(type(self.base))

    @torch.no_grad()
    def fade(self, factor: float) -> None:
        for param, state in self.state.items():
            for name in (self._kind or _guessed(param, state)).moments:
                if isinstance(state.get(name), Tensor):
                    state[name].mul_(factor)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.base.load_state_dict(state_dict)
        self._share()
        self._restore_dtypes(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_base_attributes": own_attributes(self.base)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({k: v for k, v in state.items() if k != "_base_attributes"})
        vars(self.base).update(state.get("_base_attributes", {}))


def _guessed(param: Tensor, state: dict[str, Any]) -> TorchState:
    """For optimizers of other libraries, which declare nothing: what has the parameter's shape is taken for a moment.

    How a step depends on their step counts is not known, so squares become typical ones: with 0 the first hundreds of
    steps of a new entry would be several times too large.
    """
    like = [name for name, v in state.items() if isinstance(v, Tensor) and v.shape == param.shape and name != "step"]
    return TorchState(tuple(like), typical=_SQUARES)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
