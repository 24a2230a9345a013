"""Sassha: sharpness-aware steps scaled by the Hessian's diagonal."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure
from lop.optimizers.curvature import CurvatureOptimizer
from lop.optimizers.multi_tensor import blocks, power
from lop.optimizers.options import check_at_least
from lop.optimizers.perturbation import ascent


class Sassha(CurvatureOptimizer):
    """Gradient and curvature are taken at p + e, e = rho * g / norm(g), the step is made from p.

    adaptive: the norm is that of abs(p) * g, and e is scaled by p^2 (as in ASAM). At p + e: m = b1 m + (1-b1) g; on
    refresh h = b2 h + (1-b2) abs(d), and c = 1 - b2^t of that step is kept; then
    p -= lr/(1-b1^t) * m / (h^k / c^k + eps), k: hessian_power. Weight decay is decoupled.
    Shin et al. (2025), "SASSHA: Sharpness-aware adaptive second-order optimization with stable Hessian approximation".
    """

    moments = ("exp_avg", "hessian")

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.15,
        betas: list[float] = (0.9, 0.999),
        rho: float = 0.2,
        adaptive: bool = False,
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 0.5,
        lazy_hessian: int = 10,
        n_samples: int = 1,
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        check_at_least("rho", rho, 0)
        self.rho = rho
        self.adaptive = adaptive
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "hessian_power": hessian_power,
        }
        super().__init__(
            model_or_params,
            defaults,
            n_samples=n_samples,
            lazy_hessian=lazy_hessian,
            max_grad_norm=max_grad_norm,
            seed=seed,
        )

    def _step(self, closure: Closure) -> Tensor:
        loss, params, grads = self._differentiate(closure)
        with self._perturbed(params, ascent(params, grads, self.rho, adaptive=self.adaptive)):
            del grads
            params, grads = self._curved_pass(closure)
        self._descend(params, grads)
        return loss

    def _curved_pass(self, closure: Closure) -> tuple[list[Tensor], list[Tensor]]:
        """The gradient where the parameters are now, and, on its schedule, the curvature."""
        refresh = self.refresh_due
        _, params, grads = self._differentiate(closure, create_graph=refresh)
        if refresh:
            self._refresh(params, self._diagonal(params, grads))
            grads = [g.detach() for g in grads]
        return params, grads

    def _refresh(self, params: list[Tensor], diagonal: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=0, correction=0.0, exp_avg=torch.zeros_like(p), hessian=torch.zeros_like(p))
        for group, (step, _), members, estimates in self._cohorts(params, diagonal):
            beta2 = group["betas"][1]
            for hessian, d in blocks([self.state[p]["hessian"] for p in members], estimates):
                torch._foreach_abs_(d)
                torch._foreach_lerp_(hessian, d, 1 - beta2)
            for p in members:
                self.state[p]["correction"] = 1 - beta2 ** (step + 1)

    def _scalars(self, state: dict[str, Any]) -> tuple:
        return state["step"], state["correction"]

    def _descend(self, params: list[Tensor], grads: list[Tensor]) -> None:
        params, grads = self._known(params, self._clipped(grads))
        for group, (step, correction), members, gradients in self._cohorts(params, grads):
            states = [self.state[p] for p in members]
            for piece in blocks(members, gradients, [s["exp_avg"] for s in states], [s["hessian"] for s in states]):
                _update(*piece, group, step, correction)


def _update(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg: list[Tensor],
    hessian: list[Tensor],
    group: dict[str, Any],
    step: int,
    correction: float,
) -> None:
    lr, beta1 = group["lr"], group["betas"][0]
    if group["weight_decay"]:
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    torch._foreach_lerp_(exp_avg, grads, 1 - beta1)
    # c^k goes into eps and the step: lr m / (h^k / c^k + eps) = lr c^k m / (h^k + c^k eps)
    scale = correction ** group["hessian_power"]
    denominator = power(hessian, group["hessian_power"])
    torch._foreach_add_(denominator, group["eps"] * scale)
    torch._foreach_addcdiv_(params, exp_avg, denominator, value=-lr * scale / (1 - beta1**step))
