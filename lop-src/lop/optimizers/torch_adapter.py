"""Gives every `torch.optim` class the closure protocol of this package."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lop.optimizers.base import Closure, parameters_of
from lop.optimizers.eager import eager_step
from lop.optimizers.entry_age import AGE_STATE, EntryRule
from lop.optimizers.evaluation import Pass
from lop.optimizers.objective import Objective
from lop.optimizers.options import check_values
from lop.optimizers.saving import own_attributes
from lop.optimizers.torch_state import TORCH_STATE, TorchState
from lop.optimizers.wrapping import WrappingOptimizer
from lop.utils.errors import UserError
from lop.utils.state import MEAN, Fade, PerEntry, State, per_member

# Classes whose fused kernel does the same arithmetic in one pass over the memory, on the CPU and the GPU.
_FUSED = (torch.optim.Adam, torch.optim.AdamW)

# What other libraries call averages of squared gradients that a step is divided by.
_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")


class AdaptedOptimizer(WrappingOptimizer[Pass]):
    """A `torch.optim` optimizer (or one with the same interface) behind `step(closure)`, forward only.

    optimizer_class: e.g. `torch.optim.AdamW`. hyperparameters: its own, unchanged; Adam and AdamW use torch's fused
    kernel unless `fused` or `foreach` is given. shared: options of every optimizer. The wrapped optimizer is `base`.

    What is held for a parameter, and how the age of an entry matters, is known of torch's classes (`torch_state.py`).
    Other libraries' (`pytorch_optimizer:<Class>`) declare nothing: see `_guessed`. So after `reset_entries` and `fade`
    these may not behave as their authors would have it.
    """

    options_apart = True

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        optimizer_class: type[Optimizer],
        hyperparameters: dict[str, Any],
        **shared: Any,
    ):
        self._of_torch = optimizer_class.__module__.partition(".")[0] == "torch"
        check_values(hyperparameters, foreign=not self._of_torch)
        model = model_or_params if isinstance(model_or_params, nn.Module) else None
        groups = Optimizer(parameters_of(model_or_params), {}).param_groups
        for group in groups:
            check_values(group, foreign=not self._of_torch)
        super().__init__(self._built(optimizer_class, groups, hyperparameters), model, **shared)
        self.single_pass = optimizer_class is not torch.optim.LBFGS

    def _built(
        self, optimizer_class: type[Optimizer], groups: list[dict[str, Any]], hyperparameters: dict[str, Any]
    ) -> Optimizer:
        # None is torch's own default, which a config spells out
        chosen = any(hyperparameters.get(name) is not None for name in ("fused", "foreach"))
        if optimizer_class in _FUSED and not chosen and not hyperparameters.get("differentiable"):
            fused = all(p.is_floating_point() for group in groups for p in group["params"])
            hyperparameters = hyperparameters | {"fused": fused}
        try:
            return optimizer_class(groups, **hyperparameters)
        except Exception as error:  # another library's may want anything, e.g. the net, or a package of their own
            if self._of_torch and not isinstance(error, ValueError | TypeError | RuntimeError):
                raise
            raise UserError(f"{optimizer_class.__name__}: {_one_line(error)}") from error

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if hasattr(self, "base"):  # what it was built from has been checked
            check_values(param_group, foreign=not self._of_torch)
        super().add_param_group(param_group)

    def _step(self, closure: Closure) -> Tensor:
        if not self.single_pass:
            return self._line_search(closure)
        return super()._step(closure)

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        params, grads = self._split(params, self._clipped(params, grads))
        with self._aging(params, grads), self._gradients_set(params, grads):
            self._base_step()

    @property
    def plain_gradient(self) -> bool:
        return self.single_pass

    def _base_step(self) -> None:
        if isinstance(self.base, torch.optim.Adagrad):
            self._complete_adagrad()
        try:
            if self._of_torch and not self.defaults.get("differentiable"):
                eager_step(self.base)
            else:
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
            held = self.state.get(param, {})
            for name in self.entry_names:
                value = held.get(name)
                if isinstance(value, Tensor) and value.stride() != param.stride():
                    held[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)
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
        losses: list[Tensor] = []
        whole = closure.whole if isinstance(closure, Objective) else closure  # it wants the loss's value
        with ExitStack() as gradients:

            def evaluated() -> Tensor:
                gradients.close()  # those of the point before
                with torch.no_grad(), self._frozen_statistics() if losses else nullcontext():
                    found = self._evaluate(whole)
                    clipped = self._clipped(found.params, found.grads)
                gradients.enter_context(self._gradients_set(found.params, clipped))
                losses.append(found.loss)
                return found.loss

            self.base.step(evaluated)  # type: ignore[arg-type]  # L-BFGS makes a float of the loss itself
        return losses[0]

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

    def declared(self, param: Tensor) -> State:
        own = self._kind.declared if self._kind else _guessed(param, self.state.get(param, {}))
        return {**own, **AGE_STATE}

    @property
    def stackable(self) -> bool:
        return self._kind is not None and self._kind.elementwise

    @property
    def entry_names(self) -> tuple[str, ...]:
        return per_member(self._kind.declared) if self._kind else ()

    @property
    def _kind(self) -> TorchState | None:
        """None: of another library, which says nothing of its state."""
        return TORCH_STATE.get(type(self.base))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._load_own(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_base_attributes": own_attributes(self.base)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        attributes = state.pop("_base_attributes")
        super().__setstate__(state)
        vars(self.base).update(attributes)


def _guessed(param: Tensor, held: dict[str, Any]) -> State:
    """For optimizers of other libraries, which declare nothing: what has the parameter's shape is taken for a moment,
    which starts at 0 and fades. The one place where shapes are compared, as there is nothing else to go by.

    A guess: it need not be an average, nor start at 0, and there may be state per entry of other shapes.
    How a step depends on their step counts is not known, so squares become typical ones: with 0 the first hundreds of
    steps of a new entry would be several times too large.
    """
    like = [name for name, v in held.items() if isinstance(v, Tensor) and v.shape == param.shape and name != "step"]
    return {name: PerEntry(MEAN if name in _SQUARES else 0.0, Fade.SCALES) for name in like}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
