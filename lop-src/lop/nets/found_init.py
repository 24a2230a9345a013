"""The initial distribution of layers that were made elsewhere: that of the values they have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lop.nets.init import Init, remember


@dataclass(frozen=True)
class FoundInit(Init):
    """Of weights whose rule is not known: with their own mean square, uniform where none lies beyond such a
    distribution's bounds, else normal; biases uniform in the bounds that they keep.

    scheme: "found_uniform" or "found_normal".
    """

    weight_std: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        """The scheme is none of those that a config may name."""

    def std(self, fan_in: int, fan_out: int) -> float:
        return self.weight_std

    def bias_bound(self, fan_in: int) -> float:
        return self.bias


@torch.no_grad()
def remember_found(model: nn.Module) -> None:
    """Every layer with parameters learns how they are distributed now, unless it knows how they are drawn.

    Linear and Conv2d as `FoundInit`; of other modules each parameter is drawn with its own mean and standard deviation.
    """
    for module in model.modules():
        if getattr(module, "init", None) is not None or hasattr(module, "fresh_parameters"):
            continue
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.Linear | nn.Conv2d) and "weight" in own:  # else it is computed from others
            remember(module, _found(module.weight, module.bias))
        elif own and not isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm):
            moments = {name: (p.mean().item(), _spread(p)) for name, p in own.items()}
            module.fresh_parameters = partial(_drawn, own, moments)  # type: ignore[assignment]  # no tensor


def _found(weight: Tensor, bias: Tensor | None) -> FoundInit:
    std = weight.double().square().mean().sqrt().item()  # squares of half precision may be 0
    uniform = weight.abs().max().item() <= 1.02 * math.sqrt(3) * std
    bound = 0.0 if bias is None else bias.abs().max().item()
    return FoundInit("found_uniform" if uniform else "found_normal", "linear", weight_std=std, bias=bound)


def _spread(values: Tensor) -> float:
    return values.std().item() if values.numel() > 1 else 0.0


def _drawn(
    own: dict[str, nn.Parameter], moments: dict[str, tuple[float, float]], generator: torch.Generator
) -> dict[str, Tensor]:
    fresh = {}
    for name, p in own.items():
        mean, std = moments[name]
        drawn = torch.empty(p.shape, dtype=p.dtype, device=generator.device).normal_(mean, std, generator=generator)
        fresh[name] = drawn.to(p.device)
    return fresh
