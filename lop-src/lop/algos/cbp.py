"""Continual backprop: replace a few of the least useful mature units in every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.state import Kind, State
from lop.algos.units import UnitReset, replace_units, resettable
from lop.algos.utility import FACTORS, UnitStatistics, UtilityType
from lop.nets import HiddenLayer
from lop.nets.init import fresh_parameters
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT_OR_ZERO, DECAY, SHARE, require, require_choice


class MatureUnits:
    """How many of a layer's units are mature, and how many of them to replace, known without asking the device.

    A unit is mature from `maturity_threshold` + 1 steps after its birth, and only mature units are replaced: so the
    numbers follow from the numbers alone, whichever units it were.
    """

    state: ClassVar[State] = {"mature": Kind.VALUE, "owed": Kind.VALUE, "growing": Kind.VALUE}

    def __init__(self, units: int, maturity_threshold: int):
        self.maturity_threshold = maturity_threshold
        self.mature = 0
        self.owed = 0.0  # replacements accumulated so far, a fraction of a unit
        self.growing = [[maturity_threshold + 1, units]]  # [step in which they become mature, number], in order

    def due(self, step: int, replacement_rate: float, chance: float | None) -> int:
        """The number to replace in this step, which is then counted as done.

        chance: a random number in [0, 1) that decides on the fraction of a unit; None: fractions accumulate.
        """
        while self.growing and self.growing[0][0] <= step:
            self.mature += self.growing.pop(0)[1]
        self.owed += replacement_rate * self.mature
        number = int(self.owed) if chance is None else int(self.owed + chance)
        self.owed = self.owed - number if chance is None else 0.0
        number = min(number, self.mature)
        if number:
            self.mature -= number
            self.growing.append([step + self.maturity_threshold + 1, number])
        return number

    def count_anew(self, births: list[int], step: int) -> None:
        """After others have replaced units. births: of all units; step: the last one."""
        ripe = Counter(birth + self.maturity_threshold + 1 for birth in births)
        self.mature = sum(number for due, number in ripe.items() if due <= step)
        self.growing = [[due, ripe[due]] for due in sorted(ripe) if due > step]


@intervention("cbp")
class CBP(Intervention):
    """Every step, `replacement_rate` x (units older than `maturity_threshold` steps) per layer, least useful first.

    Fractions of a unit accumulate, or are decided at random when `accumulate` is false. A replaced unit gets incoming
    weights from the initial distribution, bias 0, a fresh normalisation, outgoing weights 0, age and utility 0; its
    mean activation times its outgoing weights is added to the bias of the readers, where they have one. Layers whose
    readers are not all known (a residual stream) are left alone.
    util_type, decay: see UnitStatistics. Dohare et al. (2024), "Loss of plasticity in deep continual learning".
    (The published code zeroes the mean activation before it hands it over; here the hand-over happens.)
    """

    state: ClassVar[State] = {
        "steps": Kind.VALUE,
        "replaced": Kind.VALUE,
        "_statistics": Kind.NESTED,
        "_births": Kind.TENSORS,
        "_counts": Kind.NESTED,
        "_generator": Kind.GENERATOR,
        "_chances": Kind.GENERATOR,
    }

    needs_features = True

    def __init__(
        self,
        *,
        replacement_rate: float = 1e-4,
        maturity_threshold: int = 100,
        util_type: UtilityType = "adaptable_contribution",
        decay: float = 0.99,
        accumulate: bool = True,
    ):
        require(SHARE, replacement_rate=replacement_rate)
        require(COUNT_OR_ZERO, maturity_threshold=maturity_threshold)
        require_choice(tuple(FACTORS), util_type=util_type)
        require(DECAY, decay=decay)
        self.replacement_rate, self.maturity_threshold = replacement_rate, maturity_threshold
        self.util_type, self.decay, self.accumulate = util_type, decay, accumulate

    def attach(self, host: Host) -> None:
        super().attach(host)
        layers = resettable(host.hidden_layers)
        if not layers:
            raise UserError("cbp: the net has no hidden layer whose units may be reset; remove it from algos")
        self._layers: list[HiddenLayer] = [layer for _, layer in layers]
        self._generator = host.make_generator("cbp")
        self._chances = host.make_generator("cbp", "chances", device="cpu")

    def restart(self) -> None:
        self.steps = self.replaced = 0
        layers, device = resettable(self.host.hidden_layers), self.host.device
        self._statistics = UnitStatistics(layers, self.util_type, self.decay)
        self._births = [torch.zeros(layer.units, dtype=torch.int64, device=device) for layer in self._layers]
        self._counts = [MatureUnits(layer.units, self.maturity_threshold) for layer in self._layers]

    def on_units_replaced(self, layer: HiddenLayer, mask: Tensor) -> None:
        if layer in self._layers:
            i = self._layers.index(layer)
            self._statistics.restart_where(i, mask)
            self._births[i].masked_fill_(mask, self.steps)
            self._counts[i].count_anew(self._births[i].tolist(), self.steps)

    def after_step(self, features: Sequence[Tensor]) -> None:
        self.steps += 1
        self._statistics.update(features)
        resets = []
        for i, count in enumerate(self._counts):
            chance = None if self.accumulate else torch.rand((), generator=self._chances).item()
            number = count.due(self.steps, self.replacement_rate, chance)
            if number:
                resets.append(self._replacement(i, number))
        if resets:
            replace_units(self, resets)

    @torch.no_grad()
    def _replacement(self, i: int, number: int) -> UnitReset:
        """Choose the least useful mature units of layer i, and start them anew in the books."""
        layer = self._layers[i]
        utility = self._statistics.utilities(i)
        if self.util_type == "random":
            utility = torch.rand(utility.shape, generator=self._generator, device=utility.device)
        mature = self._births[i] < self.steps - self.maturity_threshold
        units = utility.masked_fill_(~mature, torch.inf).topk(number, largest=False).indices
        means = self._statistics.mean_activations(i, units)
        incoming = fresh_parameters(layer.incoming, self._generator, units=number)
        if "bias" in incoming:
            incoming["bias"].zero_()
        self._statistics.restart(i, units)
        self._births[i].index_fill_(0, units, self.steps)
        self.replaced += number
        return UnitReset(layer, units, incoming, means=means)
