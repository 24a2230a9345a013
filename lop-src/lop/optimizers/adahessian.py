"""AdaHessian: Adam with the Hessian's diagonal in place of the squared gradient."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lop.optimizers.curvature import CurvatureOptimizer, add_preconditioned, preconditioned, step_numbers
from lop.optimizers.entry_age import TOLERANCE, EntryRule, steps_until
from lop.optimizers.multi_tensor import Number, scale
from lop.optimizers.registry import optimizer
from lop.optimizers.young import Young
from lop.utils.state import Fade, PerEntry, State, Value


@optimizer("adahessian")
class AdaHessian(CurvatureOptimizer):
    """m = b1 m + (1-b1) g; v = b2 v + (1-b2) d^2; p -= lr * (m/(1-b1^t)) / ((v/(1-b2^t))^(k/2) + eps).

    d: Hutchinson's estimate of the Hessian's diagonal; between refreshes the last one is used. k: hessian_power.
    spatial_averaging: abs(d) of a convolution kernel (3-d or 4-d) is averaged over the kernel's positions.
    This is the authors' version for images; the one for language also averages abs(d) over the rows of matrices.
    Weight decay is decoupled: p *= 1 - lr * weight_decay. The authors' scripts give the product, so their value is to
    be divided by the step size. Yao et al. (2021), "ADAHESSIAN: An adaptive second order optimizer".
    """

    param_state: ClassVar[State] = {
        "step": Value(),
        "exp_avg": PerEntry(fade=Fade.SCALES),
        "exp_avg_sq": PerEntry(fade=Fade.SCALES),
        "diagonal_sq": PerEntry(),
    }

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.15,
        hessian_power: float = 1.0,
        spatial_averaging: bool = True,
        lazy_hessian: int = 1,
        **shared: Any,
    ):
        own = {"hessian_power": hessian_power, "spatial_averaging": spatial_averaging}
        super().__init__(model_or_params, own, lr=lr, lazy_hessian=lazy_hessian, **shared)

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        params, grads = self._ready(params, grads)
        with self._aged(params, grads):
            for group, (step,), members, gradients in self._cohorts(params, grads):
                columns = self._columns(members, "exp_avg", "exp_avg_sq", "diagonal_sq")
                (beta1, beta2), exponent = group["betas"], group["hessian_power"] / 2
                scale = (1 - beta2**step) ** exponent
                options = {"betas": (beta1, beta2), "exponent": exponent, "decay": group["weight_decay"] != 0}
                self._advance(_update, [members, gradients, *columns], step_numbers(group, step, scale), **options)

    def _entry_rule(self, group: dict[str, Any]) -> EntryRule:
        return _RULE

    def _refresh(self, params: list[Tensor], diagonal: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["step"] = 0
                for name in ("exp_avg", "exp_avg_sq", "diagonal_sq"):
                    self.state[p][name] = torch.zeros_like(p)
        for group, _, members, estimates in self._cohorts(params, diagonal):
            for p, d in zip(members, estimates, strict=True):
                first = 2 + self.stacked  # dimension of the kernel's positions
                if group["spatial_averaging"] and d.ndim - first in (1, 2):
                    d = d.abs_().mean(dim=tuple(range(first, d.ndim)), keepdim=True).expand_as(d)
                torch.mul(d, d, out=self.state[p]["diagonal_sq"])


def _update(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg: list[Tensor],
    exp_avg_sq: list[Tensor],
    diagonal_sq: list[Tensor],
    scratch: list[Tensor],
    *,
    keep: Number,
    eps: Number,
    step_size: Number,
    betas: tuple[float, float],
    exponent: float,
    decay: bool,
) -> None:
    beta1, beta2 = betas
    if decay:
        scale(params, keep)
    torch._foreach_lerp_(exp_avg, grads, 1 - beta1)
    torch._foreach_lerp_(exp_avg_sq, diagonal_sq, 1 - beta2)
    add_preconditioned(params, exp_avg, exp_avg_sq, scratch, exponent=exponent, eps=eps, step_size=step_size)


def _young(young: Young, unbias: Tensor, unbias_square: Tensor) -> Tensor:
    direction, curvature = young["exp_avg"] * unbias, young["exp_avg_sq"] * unbias_square
    return preconditioned(young, direction, curvature, young.group["hessian_power"] / 2)


_RULE = EntryRule(
    ("betas",),
    lambda betas: steps_until(TOLERANCE, *betas),
    lambda n, betas: (1 / (1 - betas[0] ** n), 1 / (1 - betas[1] ** n)),
    _young,
    moments=("exp_avg", "exp_avg_sq"),
)
