"""Continual backprop: replace a few of the least useful mature units in every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.layout import UnitLayout
from lop.algos.units import UnitReset, replace_units
from lop.algos.utility import FACTORS, UnitStatistics, UtilityType
from lop.nets import HiddenLayer
from lop.nets.init import fresh_parameters
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT_OR_ZERO, DECAY, SHARE, require, require_choice
from lop.utils.state import UNITS, Generator, Part, PerUnit, State, Value, renew_units, start_state


class MatureUnits:
    """How many of a layer's units are mature, and how many of them to replace, known without asking the device.

    A unit is mature from `maturity_threshold` + 1 steps after its birth, and only mature units are replaced: so the
    numbers follow from the numbers alone, whichever units it were.
    """

    state: ClassVar[State] = {
        "mature": Value(0),
        "owed": Value(0.0),  # replacements accumulated so far, a fraction of a unit
        # [step in which they become mature, number], in order
        "growing": Value(lambda own: [[own.maturity_threshold + 1, own.units]]),
    }
    varying = ("maturity_threshold",)
    mature: int
    owed: float
    growing: list[list[int]]

    def __init__(self, units: int, maturity_threshold: int):
        self.units, self.maturity_threshold = units, maturity_threshold
        start_state(self)

    def for_stack(self, units: UnitLayout) -> None:
        """Each member counts for itself."""

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
        "steps": Value(0),
        "replaced": Value(0),
        "_statistics": Part(),
        "_births": PerUnit("steps", dtype=torch.int64),
        "_counts": Part(),
        "_generator": Generator(),
        "_chances": Generator(),
    }
    steps: int
    replaced: int
    _births: Tensor

    needs_features = True
    stacks = True
    varying = ("decay", "replacement_rate", "maturity_threshold", "accumulate")

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
        if not self.units.layers:
            raise UserError("cbp: the net has no hidden layer whose units may be reset; remove it from algos")
        self._statistics = UnitStatistics(self.units, self.util_type, self.decay)
        self._counts = [MatureUnits(layer.units, self.maturity_threshold) for layer in self.units.layers]
        self._generator = host.make_generator("cbp")
        self._chances = host.make_generator("cbp", "chances", device="cpu")

    def births(self, layer: HiddenLayer) -> Tensor:
        """The steps after which a layer's units were new, int64 (units,), a view."""
        return self.units.along(self._births, -1, UNITS, layer)

    def on_units_replaced(self, layer: HiddenLayer, mask: Tensor) -> None:
        super().on_units_replaced(layer, mask)
        if layer in self.units:
            count = self._counts[self.units.layers.index(layer)]
            count.count_anew(self.births(layer).tolist(), self.steps)

    def after_step(self, features: Sequence[Tensor]) -> None:
        self._statistics.update(features)
        for own in self.each():
            own._replace()

    def _replace(self) -> None:
        """What is due in this step, a number that is known without asking the device; mostly none."""
        self.steps += 1
        resets = []
        for layer, count in zip(self.units.layers, self._counts, strict=True):
            chance = None if self.accumulate else torch.rand((), generator=self._chances).item()
            number = count.due(self.steps, self.replacement_rate, chance)
            if number:
                resets.append(self._replacement(layer, number))
        if resets:
            replace_units(self, resets)

    @torch.no_grad()
    def _replacement(self, layer: HiddenLayer, number: int) -> UnitReset:
        """Choose a layer's least useful mature units, and start them anew in the books."""
        utility = self._statistics.utilities(layer)
        if self.util_type == "random":
            utility = torch.rand(utility.shape, generator=self._generator, device=utility.device)
        mature = self.births(layer) < self.steps - self.maturity_threshold
        units = utility.masked_fill_(~mature, torch.inf).topk(number, largest=False).indices
        means = self._statistics.mean_activations(layer, units)
        incoming = fresh_parameters(layer.incoming, self._generator, units=number)
        if "bias" in incoming:
            incoming["bias"].zero_()
        reset = UnitReset(layer, units, incoming, means=means)
        renew_units(self, layer, reset.mask())
        self.replaced += number
        return reset
