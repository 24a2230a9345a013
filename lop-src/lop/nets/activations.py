"""Activations by name, as modules: features are recorded at their outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lop.utils.errors import UserError, lookup


class CReLU(nn.Module):
    """Concatenated ReLU (Shang 2016): (relu(x), relu(-x)) along dimension `dim`; twice as many features as units."""

    def __init__(self, dim: int = 1):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((torch.relu(x), torch.relu(-x)), dim=self.dim)


class Fourier(nn.Module):
    """(sin x, cos x) along dimension 1, twice as many features as units: one of the two has a slope of 0.7 or more.

    Deep Fourier features, Lewandowski et al. (2025), "Plastic learning with deep Fourier features".
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.sin(), x.cos()), dim=1)


class SteeperLeakyReLU(nn.LeakyReLU):
    """x where x > 0, else 0.1 x: torch's own slope is 0.01 (Muppidi et al. 2024 use this one)."""

    def __init__(self):
        super().__init__(0.1)


class SmoothLeaky(nn.Module):
    """slope x + (1 - slope) x sigmoid(x c / p): a leaky ReLU without a corner.

    Lillo & Cheney (2026), "Activation function design sustains plasticity in continual learning", equation 1 and the
    values of their figure 5: slope 0.1, c 5, p 3.
    """

    def __init__(self, slope: float = 0.1, c: float = 5.0, p: float = 3.0):
        super().__init__()
        self.slope, self.steepness = slope, c / p

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.slope + (1 - self.slope) * torch.sigmoid(self.steepness * x))


class PerUnit(nn.Module):
    """Base of the activations with a trained number per unit (dimension 1 of their input). start: its first value."""

    def __init__(self, units: int, start: float):
        super().__init__()
        self.start = start
        self.weight = nn.Parameter(torch.full((units,), start))

    def fresh_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Its initial distribution is a constant."""
        return {"weight": torch.full_like(self.weight, self.start)}

    def _along_units(self, x: Tensor) -> Tensor:
        return self.weight.view(-1, *[1] * (x.dim() - 2))


class PReLU(PerUnit):
    """x where x > 0, else a x; a is trained, of each unit (He 2015: from 0.25)."""

    def __init__(self, units: int):
        super().__init__(units, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self._along_units(x) * x)


class AdaLin(PerUnit):
    """phi(x) + a x sg[cos(pi/2 abs(phi'(x)) / L)]: a is trained, of each unit, L the largest slope of phi.

    So the linear part is added where phi is flat. base: "tanh", or "relu", where this is PReLU. The gate lets no
    gradient through. a starts at 0, so that the net begins as one of phi: a choice of ours.
    Rohani et al. (2025), "Preserving plasticity in continual learning with adaptive linearity injection".
    """

    def __init__(self, units: int, base: str):
        super().__init__(units, 0.0)
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        if self.base == "relu":
            value, slope = torch.relu(x), (x > 0).to(x.dtype)
        else:
            value = torch.tanh(x)
            slope = 1 - value.detach() ** 2
        gate = torch.cos(math.pi / 2 * slope)
        gate = torch.where(slope == 1, torch.zeros_like(gate), gate)  # in floating point it is 6e-17
        return value + self._along_units(x) * x * gate


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "leaky_relu_0.1": SteeperLeakyReLU,
    "smooth_leaky": SmoothLeaky,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "linear": nn.Identity,
    "crelu": CReLU,
    "fourier": Fourier,
}
PER_UNIT: dict[str, Callable[[int], nn.Module]] = {
    "prelu": PReLU,
    "adalin": partial(AdaLin, base="tanh"),
    "adalin_relu": partial(AdaLin, base="relu"),
}
"""Those that are made for a number of units."""


def make_activation(name: str, units: int | None = None) -> nn.Module:
    """units: of the layer, along dimension 1 of the activation's input; None: along another one.

    Raises UserError for an unknown name, and for an activation with parameters per unit where units are None.
    """
    make = lookup({**ACTIVATIONS, **PER_UNIT}, name, "activation")
    if name not in PER_UNIT:
        return make()
    if units is None:
        raise UserError(f"must be one without parameters per unit in this net, got {name!r}", option="activation")
    return make(units)


def expansion(name: str) -> int:
    """Features per unit."""
    return 2 if name in ("crelu", "fourier") else 1
