"""Recycle tau-dormant units (ReDo)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.units import UnitReset, candidates, replace_units
from lop.nets import HiddenLayer
from lop.nets.init import fresh_parameters
from lop.utils.ranges import AMOUNT, COUNT, require, require_choice
from lop.utils.state import NOTHING, Generator, PerEntry, State, Value


def tau_dormant_units(features: Tensor, layer: HiddenLayer, threshold: float) -> Tensor:
    """bool (units,): mean abs activation, over its layer's mean, <= threshold. features: (batch, features[, h, w]).

    Sokar's tau-dormant units, not Dohare's dormant ones (`lop.metrics.units`); one decision per unit, whose CReLU
    halves are averaged.
    """
    activity = features.abs().mean([0, *range(2, features.dim())]).view(layer.expansion, -1).mean(0)
    return activity <= threshold * activity.mean()


@intervention("redo")
class ReDo(Intervention):
    """Every `period` steps, units that are tau-dormant on the step's batch start again, with outgoing weights 0.

    threshold: tau; a unit is tau-dormant when its mean abs activation is at most so much of its layer's mean.
    weights: the incoming weights (and bias) are drawn "fresh" from the initial distribution, or are the "original"
    ones again. Sokar et al. (2023), "The dormant neuron phenomenon in deep reinforcement learning".
    """

    state: ClassVar[State] = {"steps": Value(0), "_original": PerEntry(NOTHING), "_generator": Generator()}
    steps: int
    _original: dict[str, Tensor]

    needs_features = True
    stacks = True
    varying = ("threshold", "period", "weights")

    def __init__(
        self,
        *,
        threshold: float = 0.1,
        period: int = 1000,
        weights: Literal["fresh", "original"] = "fresh",
    ):
        require(AMOUNT, threshold=threshold)
        require(COUNT, period=period)
        require_choice(("fresh", "original"), weights=weights)
        self.threshold, self.period, self.weights = threshold, period, weights

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator("redo")
        named = {p: name for name, p in host.net.named_parameters()}
        # each layer's incoming parameters: their names in the layer, and in the net
        self._incoming = [
            {own: named[p] for own, p in layer.incoming.named_parameters()} for layer in self.units.layers
        ]

    def restart(self) -> None:
        super().restart()
        if self.weights == "original":
            names = [name for incoming in self._incoming for name in incoming.values()]
            parameters = dict(self.host.net.named_parameters())
            self._original = {name: parameters[name].detach().clone() for name in names}

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        for i, own in enumerate(self.each()):
            own.steps += 1
            if own.steps % own.period == 0:
                own._recycle([layer[i] for layer in features] if self.stacked else features)

    def _recycle(self, features: Sequence[Tensor]) -> None:
        resets = []
        for layer, names in zip(self.units.layers, self._incoming, strict=True):
            units, chosen = candidates(tau_dormant_units(self.units.features(layer, features), layer, self.threshold))
            if self.weights == "original":
                incoming = {own: self._original[name].index_select(0, units) for own, name in names.items()}
            else:
                incoming = fresh_parameters(layer.incoming, self._generator, units=len(units))
            resets.append(UnitReset(layer, units, incoming, chosen))
        replace_units(self, resets)
