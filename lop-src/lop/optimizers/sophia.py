"""Sophia: the momentum divided by the Hessian's diagonal, clipped entry by entry."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure
from lop.optimizers.curvature import CurvatureOptimizer
from lop.optimizers.multi_tensor import blocks


class SophiaH(CurvatureOptimizer):
    """p -= lr * sign(m) * min(abs(m) / (clip_threshold * max(h, 0) + eps), 1), m = b1 m + (1-b1) g.

    On refresh h = b2 h + (1-b2) d with Hutchinson's estimate d; no bias corrections. An entry without positive
    curvature takes the full step lr * sign(m). Weight decay is decoupled.
    Liu et al. (2024), "Sophia: A scalable stochastic second-order optimizer".
    """

    moments = ("exp_avg", "hessian")

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.003,
        betas: list[float] = (0.965, 0.99),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        clip_threshold: float = 1.0,
        lazy_hessian: int = 10,
        n_samples: int = 1,
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "clip_threshold": clip_threshold,
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
        refresh = self.refresh_due
        loss, params, grads = self._differentiate(closure, create_graph=refresh)
        if refresh:
            self._refresh(params, self._diagonal(params, grads))
            grads = [g.detach() for g in grads]
        self._descend(params, grads)
        return loss

    def _descend(self, params: list[Tensor], grads: list[Tensor]) -> None:
        params, grads = self._known(params, self._clipped(grads))
        for group, _, members, gradients in self._cohorts(params, grads):
            states = [self.state[p] for p in members]
            for piece in blocks(members, gradients, [s["exp_avg"] for s in states], [s["hessian"] for s in states]):
                _update(*piece, group)

    def _scalars(self, state: dict[str, Any]) -> tuple:
        return ()

    def _refresh(self, params: list[Tensor], diagonal: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=0, exp_avg=torch.zeros_like(p), hessian=torch.zeros_like(p))
        for group, _, members, estimates in self._cohorts(params, diagonal):
            for hessian, d in blocks([self.state[p]["hessian"] for p in members], estimates):
                torch._foreach_lerp_(hessian, d, 1 - group["betas"][1])


def _update(
    params: list[Tensor], grads: list[Tensor], exp_avg: list[Tensor], hessian: list[Tensor], group: dict[str, Any]
) -> None:
    lr = group["lr"]
    if group["weight_decay"]:
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    torch._foreach_lerp_(exp_avg, grads, 1 - group["betas"][0])
    denominator = torch._foreach_clamp_min(hessian, 0.0)
    torch._foreach_mul_(denominator, group["clip_threshold"])
    torch._foreach_add_(denominator, group["eps"])
    ratio = torch._foreach_div(exp_avg, denominator)
    torch._foreach_clamp_min_(ratio, -1.0)
    torch._foreach_clamp_max_(ratio, 1.0)
    torch._foreach_add_(params, ratio, alpha=-lr)
