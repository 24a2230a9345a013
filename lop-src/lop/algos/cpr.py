"""Calibrated partial resets (CPR): all units go back towards their beginnings, those that learn least the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.gradient_score import gradient_scores
from lop.nets import HiddenLayer
from lop.nets.init import fresh_parameters
from lop.utils.ranges import COUNT, DECAY, POSITIVE, SHARE, require
from lop.utils.state import UNITS, Generator, PerUnit, State, Value


@intervention("cpr")
class CPR(Intervention):
    """Every `period` steps W_in <- (1 - r) W_in + r fresh and W_out <- (1 - r) W_out per unit, r by its utility.

    Utility u starts at 1; every step u <- decay u + (1 - decay) score, see `gradient_scores`, and it is 1 again after
    each reset. r = `rate` * min(1, 2 sigmoid(-sharpness (u - 1))): `rate` at or below the layer's mean, less above.
    fresh: from the initial distribution. Layers from input to output, so that a weight between two of them first
    shrinks by the one it leaves. The heads' columns shrink, too. Biases, normalisations and the optimizer's state are
    left as they are: no unit is a new one. Layers whose readers are not all known (a residual stream) are left alone.

    "Calibrated partial resets" (2026), from the authors' code: rate 0.015, sharpness 16, decay 0.99, every 1,000 steps;
    0.01 every 100 on permuted MNIST.
    Cost: a copy of the gradients and one pass over them per step.
    """

    state: ClassVar[State] = {"steps": Value(0), "_utilities": PerUnit(1.0), "_generator": Generator()}
    steps: int
    _utilities: Tensor

    def __init__(self, *, rate: float = 0.015, sharpness: float = 16.0, decay: float = 0.99, period: int = 1000):
        require(SHARE, rate=rate)
        require(POSITIVE, sharpness=sharpness)
        require(DECAY, decay=decay)
        require(COUNT, period=period)
        self.rate, self.sharpness, self.decay, self.period = rate, sharpness, decay, period

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator("cpr")

    def utilities(self, layer: HiddenLayer) -> Tensor:
        """Of a layer's units, (units,), a view."""
        return self.units.along(self._utilities, -1, UNITS, layer)

    @property
    def needs_gradients(self) -> bool:
        return True

    @torch.no_grad()
    def on_gradients(self, gradients: Mapping[Tensor, Tensor]) -> None:
        for layer in self.units.layers:
            gradient = gradients.get(layer.incoming.weight)
            if gradient is not None:
                self.utilities(layer).lerp_(gradient_scores(gradient), 1 - self.decay)

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        self.steps += 1
        if self.steps % self.period:
            return
        for layer in self.units.layers:
            self._reset(layer, self.rates(self.utilities(layer)))
        self._utilities.fill_(1.0)

    def rates(self, utility: Tensor) -> Tensor:
        """How far each unit is reset, (units,)."""
        return self.rate * (2 * torch.sigmoid(-self.sharpness * (utility - 1))).clamp_max(1.0)

    def _reset(self, layer: HiddenLayer, rates: Tensor) -> None:
        weight = layer.incoming.weight
        fresh = fresh_parameters(layer.incoming, self._generator)["weight"]
        weight.lerp_(fresh, rates.view(-1, *[1] * (weight.dim() - 1)).expand_as(weight))
        for module in layer.outgoing:
            layer.outgoing_weight(module).mul_((1 - rates).view(1, 1, -1, 1))
