"""Weight clipping: no weight ever leaves the range that a net is drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.sdp import spectral_modules
from lop.utils.ranges import POSITIVE, require


@intervention("weight_clipping")
class WeightClipping(Intervention):
    """After each step, weights and biases of every Linear and Conv2d are clamped to +-kappa / sqrt(fan_in).

    kappa: 1 is the bound of torch's own initialisation; the authors search 1 to 5. With wider initial distributions
    (Kaiming's is sqrt(6) / sqrt(fan_in)) the first step already clips. clip_last_layer: the heads, too. A bias has its
    layer's fan_in. The optimizer's state is left as it is.

    Elsayed et al. (2024), "Weight clipping for deep continual and reinforcement learning". In the authors' code a
    normalisation's scale and offset have the bound of the layer before it, which would hold a scale of 1 down at
    kappa / sqrt(fan_in); here they are free, as in the paper, which clips weights and biases.
    Cost: one pass over the parameters.
    """

    def __init__(self, *, kappa: float = 1.0, clip_last_layer: bool = True):
        require(POSITIVE, kappa=kappa)
        self.kappa, self.clip_last_layer = kappa, clip_last_layer

    def attach(self, host: Host) -> None:
        super().attach(host)
        modules = [*spectral_modules(host.net), *(host.net.output_layers() if self.clip_last_layer else [])]
        bounded = [(p, m.weight[0].numel()) for m in modules for p in (m.weight, m.bias) if p is not None]
        self._parameters: list[Tensor] = [p for p, _ in bounded]
        self._upper = [self.kappa / math.sqrt(fan_in) for _, fan_in in bounded]
        self._lower = [-bound for bound in self._upper]

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        torch._foreach_clamp_max_(self._parameters, self._upper)
        torch._foreach_clamp_min_(self._parameters, self._lower)
