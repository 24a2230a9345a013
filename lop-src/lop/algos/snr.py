"""Self-normalised resets (SNR): a unit is reset when it has been silent for longer than is usual for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.silence import AdaptiveThreshold, LifetimeThreshold
from lop.algos.units import UnitReset, candidates, replace_units
from lop.nets.init import fresh_parameters
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, OPEN_SHARE, require, require_choice
from lop.utils.state import UNITS, Generator, Part, State, Value


@intervention("snr")
class SNR(Intervention):
    """A unit is reset when it has been silent for longer than the (1 - eta) quantile of its own silences.

    A unit fires in a step when its activation is > 0 for any example and position. A reset unit gets fresh incoming
    weights and outgoing weights 0. Farias & Jozefiak (2025), "Self-normalized resets for plasticity in continual
    learning".

    threshold: how the quantile becomes a threshold.
        adaptive: as in the authors' code, see `AdaptiveThreshold`. Times count examples; the threshold stays within
        [min_time, max_time], None: 20,000. refresh: steps between updates of the thresholds, None: 600 (a pass over
        60,000 examples at the authors' batch size 100; their code updates every few tasks).
        lifetime: the quantile over the unit's whole life, see `LifetimeThreshold`. Times count steps; max_time None:
        500, refresh None: 100; min_time does not matter.
    """

    state: ClassVar[State] = {"steps": Value(0), "_silence": Part(), "_generator": Generator()}
    steps: int

    needs_features = True
    stacks = True

    def __init__(
        self,
        *,
        eta: float = 0.01,
        threshold: Literal["adaptive", "lifetime"] = "adaptive",
        min_time: int = 100,
        max_time: int | None = None,
        refresh: int | None = None,
    ):
        require_choice(("adaptive", "lifetime"), threshold=threshold)
        adaptive = threshold == "adaptive"
        max_time = (20_000 if adaptive else 500) if max_time is None else max_time
        refresh = (600 if adaptive else 100) if refresh is None else refresh
        require(OPEN_SHARE, eta=eta)
        require(COUNT, min_time=min_time, max_time=max_time, refresh=refresh)
        if adaptive and min_time > max_time:
            raise UserError(f"must be <= max_time, got {min_time} > {max_time}", option="min_time")
        self._new_silence: Callable[..., AdaptiveThreshold | LifetimeThreshold]
        if adaptive:
            self._new_silence = partial(
                AdaptiveThreshold, eta=eta, min_time=min_time, max_time=max_time, refresh=refresh
            )
        else:
            self._new_silence = partial(LifetimeThreshold, eta=eta, max_time=max_time, refresh=refresh)

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._silence = self._new_silence(self.units)
        self._generator = host.make_generator("snr")

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        if not self.units.layers:
            return
        step, batch = self.steps + 1, len(self.units.lead)
        read = {layer: self.units.features(layer, features) for layer in self.units.layers}
        fired = self.units.joined({layer: _fired(x, layer.expansion, batch) for layer, x in read.items()})
        overdue = self._silence.overdue(fired, read[self.units.layers[0]].shape[batch], step)
        for own, units in zip(self.each(), overdue.view(-1, overdue.shape[-1]), strict=True):
            own.steps = step
            own._start_again(units)

    def _start_again(self, overdue: Tensor) -> None:
        """overdue: bool (units,)."""
        units, chosen = candidates(overdue)
        if chosen is None and not len(units):
            return
        resets = []
        for layer in self.units.layers:
            units, chosen = candidates(self.units.along(overdue, -1, UNITS, layer))
            if len(units):
                incoming = fresh_parameters(layer.incoming, self._generator, units=len(units))
                resets.append(UnitReset(layer, units, incoming, chosen))
        if resets:
            replace_units(self, resets)
            self._silence.was_reset(overdue)


def _fired(features: Tensor, expansion: int, batch: int) -> Tensor:
    """bool (..., units): the activation was > 0 somewhere. features: (..., batch, features[, h, w]), `batch` being the
    dimension of the examples."""
    highest = features.amax([batch, *range(batch + 2, features.dim())])
    return (highest > 0).unflatten(-1, (expansion, -1)).any(-2)
