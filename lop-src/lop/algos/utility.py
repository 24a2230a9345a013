"""How useful a hidden unit is: the running statistics of continual backprop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor

from lop.algos.layout import UnitLayout, per_member
from lop.nets import HiddenLayer
from lop.nets.layer_io import WeightLayer
from lop.utils.state import FEATURES, PerUnit, State, start_state

UtilityType = Literal[
    "weight",
    "contribution",
    "adaptation",
    "zero_contribution",
    "adaptable_contribution",
    "feature_by_input",
    "random",
]


class Factors(NamedTuple):
    """What is multiplied: the activation's "magnitude" or "deviation", the outgoing weights, 1 / the incoming ones."""

    activation: str | None
    outgoing: bool
    incoming: bool


FACTORS: dict[str, Factors] = {
    "weight": Factors(None, True, False),
    "contribution": Factors("magnitude", True, False),
    "adaptation": Factors(None, False, True),
    "zero_contribution": Factors("deviation", True, False),
    "adaptable_contribution": Factors("deviation", True, True),
    "feature_by_input": Factors("deviation", False, True),
    "random": Factors(None, False, False),
}

SMALLEST_MAGNITUDE = 1e-12  # of incoming weights: a unit without any has a large utility, not an infinite one
BLOCK = 2**18  # elements of a weight that are summed at once on the CPU: they stay in its cache


class UnitStatistics:
    """Running averages of all layers' units in flat tensors: a step costs a few operations for all layers together.

    `running` (3, features) holds averages that start at 0 and decay by `decay` per step: of the activation, of 1, which
    is 1 - decay^age, the bias correction of the other two, and of the utility y. With CReLU a unit has two
    features, and its utility is the mean of theirs. y, of this step's features as their readers see them
    (that is, pooled) and the weights after its update:

    weight: mean abs outgoing weight. contribution: that x mean abs activation. adaptation: 1 / mean abs incoming
    weight. zero_contribution: mean abs outgoing weight x mean abs of (activation - its running mean).
    adaptable_contribution: that / mean abs incoming weight. feature_by_input: the same without the outgoing weight.
    Means are over examples, positions, outputs and readers. Dohare et al. (2024), "Loss of plasticity in deep
    continual learning", Nature 632.
    """

    state: ClassVar[State] = {"running": PerUnit(0.0, (3, FEATURES))}
    varying = ("decay",)
    decay: float | Tensor
    running: Tensor

    def __init__(self, units: UnitLayout, util_type: UtilityType, decay: float):
        self.units, self.util_type, self.decay, self._factors = units, util_type, decay, FACTORS[util_type]
        parts = [units.part(FEATURES, layer) for layer in units.layers]
        groups = [[layer] for layer in units.maps] + ([units.dense] if units.dense else [])
        of = dict(zip(units.layers, parts, strict=True))
        # layers whose features are handled as one, and where these are
        self._groups = [(layers, slice(of[layers[0]].start, of[layers[-1]].stop)) for layers in groups]
        weight = units.layers[0].incoming.weight
        self._sample = weight.new_ones(*units.lead, 3, units.size(FEATURES))
        self._magnitudes = WeightMagnitudes(units, parts, self._factors)
        start_state(self)

    def for_stack(self, units: UnitLayout) -> UnitStatistics:
        """Those of many nets, whose state is still to be put in."""
        return UnitStatistics(units, self.util_type, cast("float", self.decay))

    @torch.no_grad()
    def update(self, features: Sequence[Tensor]) -> None:
        """features: (batch, features[, h, w]) of every hidden layer of the net, of a stack (S, batch, ...)."""
        mean, correction, utility = self.running.unbind(-2)
        blocks = list(self._blocks(features))
        for x, part, dims in blocks:
            torch.mean(x, dims, out=self._sample[..., 0, part])
        averages = self.running[..., :2, :]
        torch.lerp(averages, self._sample[..., :2, :], per_member(1 - self.decay, averages), out=averages)
        y = self._sample[..., 2, :]
        if self._factors.activation == "deviation":
            corrected = mean / correction
            for x, part, dims in blocks:
                own = corrected[..., part].unsqueeze(-2)  # for all examples
                deviation = x - own.view(*own.shape, *[1] * (x.dim() - own.dim()))
                torch.mean(deviation.abs_(), dims, out=y[..., part])
        elif self._factors.activation == "magnitude":
            for x, part, dims in blocks:
                torch.mean(x.abs(), dims, out=y[..., part])
        else:
            y.fill_(1.0)
        self._magnitudes.multiply(y)
        utility.lerp_(y, per_member(1 - self.decay, y))

    def _blocks(self, features: Sequence[Tensor]) -> Iterator[tuple[Tensor, slice, list[int]]]:
        for layers, part in self._groups:
            batch = len(self.units.lead)  # dimension of the examples
            read = [self.units.read(layer, features) for layer in layers]
            x = read[0] if len(read) == 1 else torch.cat(read, batch + 1)
            yield x, part, [batch, *range(batch + 2, x.dim())]

    def utilities(self, layer: HiddenLayer) -> Tensor:
        """Bias-corrected utility of a layer's units, (units,)."""
        own = self._of(layer)
        return (own[2] / own[1]).mean(0)

    def mean_activations(self, layer: HiddenLayer, units: Tensor) -> Tensor:
        """Bias-corrected mean activation of some units of a layer, (expansion, k)."""
        mean, correction, _ = self._of(layer).index_select(2, units)
        return mean / correction

    def _of(self, layer: HiddenLayer) -> Tensor:
        """(3, expansion, units), a view."""
        return self.units.along(self.running, -1, FEATURES, layer)


class WeightMagnitudes:
    """Multiplies by the mean abs outgoing and divides by the mean abs incoming weights of all units.

    A weight that is outgoing for one layer and incoming for the next is read once, and the sums of most layers are
    written where they are used: at width 100 the number of operations is the cost, at width 2000 the memory traffic.
    """

    def __init__(self, units: UnitLayout, parts: Sequence[slice], factors: Factors):
        """parts: of the layers' features."""
        self._factors, self._units = factors, units
        layers, lead, size = units.layers, units.lead, units.size(FEATURES)
        weight = layers[0].incoming.weight
        self._scale = weight.new_ones(size)
        self._incoming, self._outgoing = weight.new_empty(*lead, size), weight.new_empty(*lead, size)
        self._rows: dict[WeightLayer, Tensor] = {}  # where sums of rows, of columns go
        self._columns: dict[WeightLayer, Tensor] = {}
        self._gathered: list[tuple[Tensor, list[Tensor]]] = []  # (expansion, units) = sum of (.., units[, positions])
        for layer, part in zip(layers, parts, strict=True):
            if factors.incoming:
                self._scale[part] *= layer.incoming.weight[0].numel()
                self._plan_rows(layer, self._incoming[..., part])
            if factors.outgoing:
                features = layer.expansion * layer.units
                self._scale[part] /= sum(module.weight.numel() for module in layer.outgoing) // features
                self._plan_columns(layer, self._outgoing[..., part])
        self._blocks = self._plan_blocks(weight)

    def _plan_rows(self, layer: HiddenLayer, target: Tensor) -> None:
        if layer.expansion == 1:
            self._rows[layer.incoming] = target
        else:
            sums = self._rows[layer.incoming] = target.new_empty(*self._units.lead, layer.units)
            parts = target.unflatten(-1, (layer.expansion, -1))
            self._gathered.append((parts, [sums.unsqueeze(-1).unsqueeze(-3)]))

    def _plan_columns(self, layer: HiddenLayer, target: Tensor) -> None:
        lead = self._units.lead
        if len(layer.outgoing) == 1 and layer.outgoing[0].weight[0].numel() == target.shape[-1]:
            self._columns[layer.outgoing[0]] = target
        else:
            for module in layer.outgoing:
                self._columns[module] = target.new_empty(*lead, module.weight[0].numel())
            columns = [self._columns[module] for module in layer.outgoing]
            sums = [own.unflatten(-1, (layer.expansion, layer.units, -1)) for own in columns]
            self._gathered.append((target.unflatten(-1, (layer.expansion, -1)), sums))

    def _plan_blocks(self, like: Tensor) -> list[tuple[WeightLayer, list[tuple[slice, Tensor]]]]:
        """Per module the ranges of rows that are read at once, each with the memory for their absolute values."""
        lead, members = self._units.lead, math.prod(self._units.lead)
        modules = list(dict.fromkeys([*self._rows, *self._columns]))
        shapes = [(len(module.weight), module.weight[0].numel()) for module in modules]
        whole = max((rows * columns for rows, columns in shapes), default=0)
        limit = BLOCK if like.device.type == "cpu" else whole
        heights = [max(1, min(rows, limit // (members * columns))) for rows, columns in shapes]
        most = max((h * columns for h, (_, columns) in zip(heights, shapes, strict=True)), default=0)
        scratch = like.new_empty(members * most)
        plan = []
        for module, height, (rows, columns) in zip(modules, heights, shapes, strict=True):
            ranges = [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
            sizes = [(*lead, r.stop - r.start, columns) for r in ranges]
            memory = [scratch[: math.prod(size)].view(size) for size in sizes]
            plan.append((module, list(zip(ranges, memory, strict=True))))
        return plan

    def multiply(self, y: Tensor) -> None:
        """y (..., features) *= mean abs outgoing / mean abs incoming, in place, as far as the factors ask for it."""
        for module, blocks in self._blocks:
            weight = self._units.weight(module).flatten(1 + len(self._units.lead))
            self._sum(weight, blocks, self._rows.get(module), self._columns.get(module))
        for target, sums in self._gathered:
            target.copy_(sums[0].sum(-1))
            for other in sums[1:]:
                target += other.sum(-1)
        if self._factors.outgoing:
            y.mul_(self._outgoing)
        if self._factors.incoming:
            y.div_(self._incoming.clamp_min_(SMALLEST_MAGNITUDE))
        y.mul_(self._scale)

    @staticmethod
    def _sum(weight: Tensor, blocks: list[tuple[slice, Tensor]], rows: Tensor | None, columns: Tensor | None) -> None:
        """Sums of abs(weight (..., out, in)) over each row into `rows` and over each column into `columns`."""
        for i, (part, magnitude) in enumerate(blocks):
            torch.abs(weight if len(blocks) == 1 else weight[..., part, :], out=magnitude)
            if rows is not None:
                torch.sum(magnitude, -1, out=rows if len(blocks) == 1 else rows[..., part])
            if columns is not None and i == 0:
                torch.sum(magnitude, -2, out=columns)
            elif columns is not None:
                columns += magnitude.sum(-2)
