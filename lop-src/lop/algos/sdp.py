"""Spectral diversity preservation: flatten the singular values of every hidden weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.nets import Net
from lop.nets.layer_io import WeightLayer
from lop.utils.ranges import COUNT, SHARE, require
from lop.utils.state import State, Value

Exponent = float | Callable[[Tensor, Tensor], Tensor]  # gamma, or (left, right singular vectors) -> one per value
FLOOR = 1e-4  # singular values are clamped here, so that a null direction cannot blow up


@torch.no_grad()
def flatten_spectrum(weight: Tensor, gamma: Exponent) -> tuple[Tensor, Tensor]:
    """(W', condition number of W): singular values s -> mean(s)^gamma * s^(1-gamma), s clamped at 1e-4.

    weight: (out, ...), treated as the matrix (out, rest). gamma: one number, or a function of the singular vectors
    u (out, k) and vh (k, rest) that gives one per singular value, largest first. gamma 0 leaves W as it is; gamma 1
    makes all singular values equal. A diverged W (NaN or inf) has no singular values and stays as it is, with
    condition number NaN.
    """
    if not weight.isfinite().all():
        return weight, torch.full((), torch.nan, dtype=torch.float64, device=weight.device)
    u, s, vh = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    s = s.clamp_min(FLOOR)
    exponent = gamma(u, vh) if callable(gamma) else gamma
    flattened = s.mean() ** exponent * s ** (1 - exponent)
    return ((u * flattened) @ vh).to(weight.dtype).view_as(weight), s[0] / s[-1]


def spectral_modules(net: Net) -> list[WeightLayer]:
    """Every Linear and Conv2d of a net except its output heads."""
    heads = net.output_layers()
    modules = [m for m in net.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    return [m for m in modules if all(m is not head for head in heads)]


class SpectralIntervention(Intervention):
    """What SDP and GOSC share: when they act, and that the optimizer's moments fade afterwards.

    interval: act every so many steps instead of at task ends. fade: factor on the optimizer's running moments,
    which describe the weights before the change. `last_condition_numbers` holds those before the last action.
    """

    state: ClassVar[State] = {"steps": Value(0)}
    steps: int

    def __init__(self, *, interval: int | None = None, fade: float = 0.5):
        require(COUNT, interval=interval)
        require(SHARE, fade=fade)
        self.interval, self.fade = interval, fade

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._modules = spectral_modules(host.net)

    def restart(self) -> None:
        super().restart()
        self.last_condition_numbers: list[Tensor] = []

    def after_step(self, features) -> None:
        if self.interval is None:
            return
        self.steps += 1
        if self.steps % self.interval == 0:
            self.act()

    def end_task(self, task) -> None:
        if self.interval is None:
            self.act()

    @torch.no_grad()
    def act(self) -> list[Tensor]:
        """Change the weights now. Returns each layer's condition number before."""
        self.last_condition_numbers = []
        for module, exponent in zip(self._modules, self.exponents(), strict=True):
            weight, condition = flatten_spectrum(module.weight, exponent)
            module.weight.copy_(weight)
            self.last_condition_numbers.append(condition)
        self.host.optimizer.fade(self.fade)
        return self.last_condition_numbers

    def exponents(self) -> list[Exponent]:
        """gamma of each layer."""
        raise NotImplementedError


@intervention("sdp")
class SDP(SpectralIntervention):
    """Spectral diversity preservation with one exponent gamma for all singular values."""

    def __init__(self, *, gamma: float = 0.3, interval: int | None = None, fade: float = 0.5):
        require(SHARE, gamma=gamma)
        super().__init__(interval=interval, fade=fade)
        self.gamma = gamma

    def exponents(self) -> list[Exponent]:
        return [self.gamma] * len(self._modules)
