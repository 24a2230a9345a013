"""Reset units that get no gradient (ReGraMa)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.gradient_score import gradient_scores
from lop.algos.units import UnitReset, candidates, replace_units
from lop.nets.init import fresh_parameters
from lop.utils.ranges import AMOUNT, COUNT, require
from lop.utils.state import Generator, State, Value


@intervention("regrama")
class ReGraMa(Intervention):
    """Every `period` steps, units whose gradient score is at most `threshold` start again.

    The score, see `gradient_scores`, is of that step's batch. A reset unit gets incoming weights from the initial
    distribution, bias 0, a fresh normalisation and outgoing weights 0; the optimizer forgets its entries.
    keep_outgoing: its outgoing weights stay, as in the code that the authors of CPR compare with. (ReGraMa's own
    was not found.)

    Liu et al. (2025), "Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement learning":
    threshold 0.01 every 1,000 steps; 0.25 on permuted MNIST in CPR's comparison.
    Cost: every `period` steps a copy of the gradients and one pass over them; else nothing.
    """

    state: ClassVar[State] = {"steps": Value(0), "_generator": Generator()}
    steps: int

    def __init__(self, *, threshold: float = 0.01, period: int = 1000, keep_outgoing: bool = False):
        require(AMOUNT, threshold=threshold)
        require(COUNT, period=period)
        self.threshold, self.period, self.keep_outgoing = threshold, period, keep_outgoing

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator("regrama")

    @property
    def needs_gradients(self) -> bool:
        return (self.steps + 1) % self.period == 0

    @torch.no_grad()
    def on_gradients(self, gradients: Mapping[Tensor, Tensor]) -> None:
        resets = []
        for layer in self.units.layers:
            gradient = gradients.get(layer.incoming.weight)
            if gradient is None:
                continue
            units, chosen = candidates(gradient_scores(gradient) <= self.threshold)
            incoming = fresh_parameters(layer.incoming, self._generator, units=len(units))
            if "bias" in incoming:
                incoming["bias"].zero_()
            resets.append(UnitReset(layer, units, incoming, chosen, zero_outgoing=not self.keep_outgoing))
        replace_units(self, resets)

    def after_step(self, features: Sequence[Tensor]) -> None:
        self.steps += 1
