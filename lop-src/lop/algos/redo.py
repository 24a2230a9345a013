"""Recycle tau-dormant units (ReDo)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.state import Kind, State
from lop.algos.units import UnitReset, candidates, replace_units, resettable
from lop.nets import HiddenLayer
from lop.nets.init import fresh_parameters
from lop.utils.ranges import AMOUNT, COUNT, require, require_choice


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

    state: ClassVar[State] = {"steps": Kind.VALUE, "_original": Kind.TENSORS, "_generator": Kind.GENERATOR}

    needs_features = True

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
        self._layers = resettable(host.hidden_layers)
        self._generator = host.make_generator("redo")

    def restart(self) -> None:
        self.steps = 0
        self._original: list[dict[str, Tensor]] = []
        if self.weights == "original":
            self._original = [
                {name: p.detach().clone() for name, p in layer.incoming.named_parameters()} for _, layer in self._layers
            ]

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        self.steps += 1
        if self.steps % self.period:
            return
        resets = []
        for i, (position, layer) in enumerate(self._layers):
            units, chosen = candidates(tau_dormant_units(features[position], layer, self.threshold))
            if self.weights == "original":
                incoming = {name: p.index_select(0, units) for name, p in self._original[i].items()}
            else:
                incoming = fresh_parameters(layer.incoming, self._generator, units=len(units))
            resets.append(UnitReset(layer, units, incoming, chosen))
        replace_units(self, resets)
