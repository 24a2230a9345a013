"""Self-normalised resets (SNR): a unit is reset when it has been silent for longer than is usual for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lop.algos.base import Intervention, intervention
from lop.algos.randomness import generator_state, restore_generator
from lop.algos.units import UnitReset, candidates, reset_units, resettable
from lop.nets.init import fresh_parameters
from lop.utils.errors import UserError


@intervention("snr")
class SNR(Intervention):
    """A unit is reset when its time since last firing exceeds the (1 - eta) quantile of its own inter-firing times.

    Time is counted in steps; a unit fires in a step when its activation is > 0 for any example and position. Each
    unit keeps a histogram of its inter-firing times since its birth; its threshold is taken from it every `refresh`
    steps, and is `max_time` until it has seen 1/eta of them, without which that quantile says nothing. Longer
    times count as `max_time`, so a unit that never fires is reset after max_time steps. A reset unit gets fresh
    incoming weights and outgoing weights 0. Farias & Jozefiak (2025), "Self-normalized resets for plasticity in
    continual learning".
    """

    needs_features = True

    def __init__(self, *, eta: float = 0.01, max_time: int = 500, refresh: int = 100):
        if not 0 < eta < 1:
            raise UserError(f"eta must be in (0, 1), got {eta}")
        if max_time < 1:
            raise UserError(f"max_time must be >= 1, got {max_time}")
        if refresh < 1:
            raise UserError(f"refresh must be >= 1, got {refresh}")
        self.eta, self.max_time, self.refresh, self.steps = eta, max_time, refresh, 0

    def attach(self, learner) -> None:
        super().attach(learner)
        self._layers = resettable(learner.hidden_layers)
        self._units = [layer.units for _, layer in self._layers]
        self._generator = learner.make_generator("snr")
        total, device = sum(self._units), learner.device
        self._silent = torch.zeros(total, dtype=torch.int64, device=device)  # steps since the last firing
        self._histogram = torch.zeros(total, self.max_time, device=device)  # column j: inter-firing time j + 1
        self._threshold = torch.full((total,), self.max_time, dtype=torch.int64, device=device)

    @torch.no_grad()
    def after_step(self, features: list[Tensor]) -> None:
        self.steps += 1
        fired = torch.cat([_fired(features[position], layer.expansion) for position, layer in self._layers])
        column = self._silent.clamp(max=self.max_time - 1).unsqueeze(1)
        self._histogram.scatter_add_(1, column, fired.unsqueeze(1).to(self._histogram.dtype))
        self._silent.add_(1).masked_fill_(fired, 0)
        if self.steps % self.refresh == 0:
            self._threshold.copy_(self._quantiles())
        overdue = self._silent > self._threshold
        resets = []
        for (_, layer), mask in zip(self._layers, overdue.split(self._units), strict=True):
            units, chosen = candidates(mask)
            if len(units):
                incoming = fresh_parameters(layer.incoming, self._generator, units=len(units))
                resets.append(UnitReset(layer, units, incoming, chosen))
        if resets:
            reset_units(self.learner.optimizer, resets)
            self._silent.masked_fill_(overdue, 0)
            self._threshold.masked_fill_(overdue, self.max_time)
            self._histogram.masked_fill_(overdue.unsqueeze(1), 0.0)

    def _quantiles(self) -> Tensor:
        """Per unit the smallest time that at least 1 - eta of its inter-firing times do not exceed, int64 (units,)."""
        counts = self._histogram.double().cumsum(1)
        seen = counts[:, -1:]
        quantile = (counts < (1 - self.eta) * seen).sum(1) + 1
        return quantile.masked_fill(seen.squeeze(1) < math.ceil(1 / self.eta), self.max_time)

    def state_dict(self) -> dict:
        return {
            "steps": self.steps,
            "generator": generator_state(self._generator),
            "silent": self._silent,
            "histogram": self._histogram,
            "threshold": self._threshold,
        }

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        restore_generator(self._generator, state["generator"])
        self._silent.copy_(state["silent"])
        self._histogram.copy_(state["histogram"])
        self._threshold.copy_(state["threshold"])


def _fired(features: Tensor, expansion: int) -> Tensor:
    """bool (units,): the activation was > 0 somewhere. features: (batch, features[, h, w])."""
    return (features.amax([0, *range(2, features.dim())]) > 0).view(expansion, -1).any(0)
