"""How many directions of the loss are curved: the share of the Hessian's eigenvalues above eps in magnitude."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lop.metrics.curvature import HessianProduct, ritz_pairs
from lop.metrics.outputs import example_losses
from lop.metrics.registry import metric

SWEEP = tuple(10 ** (k / 4) for k in range(-8, 1))
"""0.01 to 1: a single eps can be chosen to fit."""

Steps = Annotated[int, Field(ge=1)]
Probes = Annotated[int, Field(ge=1)]


def spectral_weights(
    product: HessianProduct, steps: int, probes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(eigenvalues, weights that sum to 1): a density near that of the operator's eigenvalues; float64, on the CPU.

    Up to `steps` parameters the eigenvalues themselves. Beyond, stochastic Lanczos quadrature: from each random start
    `steps` Ritz values, weighted by their vectors' squared first components; the error of a share falls with the root
    of (probes x parameters). Inside the spectrum nothing finer than about its width / steps is resolved: a share is
    right where few eigenvalues are that near to eps. Ubaru et al. (2017); Ghorbani et al. (2019).
    """
    if product.size <= steps:
        matrix = product.dense().cpu()
        finite = bool(torch.isfinite(matrix).all())
        values = torch.linalg.eigvalsh(matrix) if finite else torch.full((1,), torch.nan, dtype=matrix.dtype)
        return values, torch.full_like(values, 1 / len(values))
    pairs = [ritz_pairs(product, steps, generator) for _ in range(probes)]
    return torch.cat([values for values, _ in pairs]), torch.cat([weights for _, weights in pairs]) / probes


def share_above(values: Tensor, weights: Tensor, eps: float) -> Tensor:
    """The weight of the eigenvalues with a magnitude above eps; NaN where one is NaN. -> ()."""
    counted = torch.where(values.isnan(), values, (values.abs() > eps).to(values.dtype))
    return (counted * weights).sum()


def _density(probe, steps: int, probes: int) -> tuple[Tensor, Tensor]:
    """Of the whole net's Hessian of the reference loss, in float64: a float32 product has noise of the size of eps."""

    def compute() -> tuple[Tensor, Tensor]:
        named = {name: p.detach().double().requires_grad_(p.requires_grad) for name, p in probe.net.named_parameters()}
        fixed = {n: b.double() if b.is_floating_point() else b for n, b in probe.net.named_buffers()}
        y = probe.y.double() if probe.y.is_floating_point() else probe.y
        outputs = torch.func.functional_call(probe.net, {**named, **fixed}, (probe.x.double(),))
        loss = example_losses(outputs, y, probe.loss, probe.active).mean()
        product = HessianProduct(loss, [p for p in named.values() if p.requires_grad])
        return spectral_weights(product, steps, probes, probe.generator("hessian_eps_rank"))

    return probe.once(f"hessian_eps_rank/{steps}/{probes}", compute)


@metric(
    "hessian_eps_rank",
    "Hessian eps-rank",
    (0, 1),
    True,
    "share of the Hessian's eigenvalues above `eps` in magnitude (spectral collapse, 2026), by stochastic Lanczos",
)
def _hessian_eps_rank(probe, *, eps: Annotated[float, Field(gt=0)] = 0.1, steps: Steps = 100, probes: Probes = 1):
    return share_above(*_density(probe, steps, probes), eps)


@metric(
    "hessian_eps_ranks",
    "Hessian eps-rank over eps",
    (0, 1),
    None,
    "the same shares for eps 0.01, 0.018, 0.032, 0.056, 0.1, ... 1",
    spectrum=True,
)
def _hessian_eps_ranks(probe, *, steps: Steps = 100, probes: Probes = 1):
    density = _density(probe, steps, probes)
    return torch.stack([share_above(*density, eps) for eps in SWEEP])
