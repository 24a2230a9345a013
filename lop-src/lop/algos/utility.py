"""How useful a hidden unit is: the running statistics of continual backprop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lop.algos.state import Kind, State
from lop.nets import HiddenLayer
from lop.nets.layer_io import WeightLayer

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

    `running` (3, features) holds averages that start at 0 and decay by `decay` per step: of the activation, of the
    utility y, and of 1, which is 1 - decay^age, the bias correction of the other two. With CReLU a unit has two
    features, and its utility is the mean of theirs. y, of this step's features as their readers see them
    (that is, pooled) and the weights after its update:

    weight: mean abs outgoing weight. contribution: that x mean abs activation. adaptation: 1 / mean abs incoming
    weight. zero_contribution: mean abs outgoing weight x mean abs of (activation - its running mean).
    adaptable_contribution: that / mean abs incoming weight. feature_by_input: the same without the outgoing weight.
    Means are over examples, positions, outputs and readers. Dohare et al. (2024), "Loss of plasticity in deep
    continual learning", Nature 632.
    """

    state: ClassVar[State] = {"running": Kind.TENSORS}

    def __init__(self, layers: Sequence[tuple[int, HiddenLayer]], util_type: UtilityType, decay: float):
        """layers: position among the net's hidden layers, and the layer."""
        self.decay, self._factors = decay, FACTORS[util_type]
        self._positions, self._layers = [position for position, _ in layers], [layer for _, layer in layers]
        dense = [i for i, layer in enumerate(self._layers) if isinstance(layer.incoming, nn.Linear)]
        maps = [[i] for i in range(len(layers)) if i not in dense]
        self._parts: list[slice] = [slice(0)] * len(layers)
        self._groups: list[tuple[list[int], slice]] = []  # layers whose features are handled as one, their slice
        end = 0
        for members in [*maps, dense] if dense else maps:
            start = end
            for i in members:
                self._parts[i] = slice(end, end := end + self._layers[i].expansion * self._layers[i].units)
            self._groups.append((members, slice(start, end)))
        weight = self._layers[0].incoming.weight
        self.running = weight.new_zeros(3, end)
        self._sample = weight.new_ones(3, end)
        self._magnitudes = WeightMagnitudes(self._layers, self._parts, self._factors, end)

    @torch.no_grad()
    def update(self, features: Sequence[Tensor]) -> None:
        """features: (batch, features[, h, w]) of every hidden layer of the net."""
        mean, correction, utility = self.running.unbind()
        blocks = list(self._blocks(features))
        for x, part, dims in blocks:
            torch.mean(x, dims, out=self._sample[0, part])
        torch.lerp(self.running[:2], self._sample[:2], 1 - self.decay, out=self.running[:2])
        y = self._sample[2]
        if self._factors.activation == "deviation":
            corrected = mean / correction
            for x, part, dims in blocks:
                deviation = x - corrected[part].view(-1, *[1] * (x.dim() - 2))
                torch.mean(deviation.abs_(), dims, out=y[part])
        elif self._factors.activation == "magnitude":
            for x, part, dims in blocks:
                torch.mean(x.abs(), dims, out=y[part])
        else:
            y.fill_(1.0)
        self._magnitudes.multiply(y)
        utility.lerp_(y, 1 - self.decay)

    def _blocks(self, features: Sequence[Tensor]) -> Iterator[tuple[Tensor, slice, list[int]]]:
        for members, part in self._groups:
            read = [self._layers[i].as_read(features[self._positions[i]]) for i in members]
            x = read[0] if len(read) == 1 else torch.cat(read, 1)
            yield x, part, [0, *range(2, x.dim())]

    def utilities(self, i: int) -> Tensor:
        """Bias-corrected utility of the units of layer i, (units,)."""
        return (self._of(i)[2] / self._of(i)[1]).mean(0)

    def mean_activations(self, i: int, units: Tensor) -> Tensor:
        """Bias-corrected mean activation of some units of layer i, (expansion, k)."""
        mean, correction, _ = self._of(i).index_select(2, units)
        return mean / correction

    def restart(self, i: int, units: Tensor) -> None:
        """Some units of layer i are new: age, utility and mean activation 0."""
        self._of(i).index_fill_(2, units, 0.0)

    def restart_where(self, i: int, mask: Tensor) -> None:
        """As `restart`, for a bool mask over the units of layer i."""
        self._of(i).masked_fill_(mask, 0.0)

    def _of(self, i: int) -> Tensor:
        """(3, expansion, units), a view."""
        return self.running[:, self._parts[i]].view(3, self._layers[i].expansion, -1)


class WeightMagnitudes:
    """Multiplies by the mean abs outgoing and divides by the mean abs incoming weights of all units.

    A weight that is outgoing for one layer and incoming for the next is read once, and the sums of most layers are
    written where they are used: at width 100 the number of operations is the cost, at width 2000 the memory traffic.
    """

    def __init__(self, layers: Sequence[HiddenLayer], parts: Sequence[slice], factors: Factors, size: int):
        self._factors = factors
        weight = layers[0].incoming.weight
        self._scale = weight.new_ones(size)
        self._incoming, self._outgoing = weight.new_empty(size), weight.new_empty(size)
        self._rows: dict[WeightLayer, Tensor] = {}  # where sums of rows, of columns go
        self._columns: dict[WeightLayer, Tensor] = {}
        self._gathered: list[tuple[Tensor, list[Tensor]]] = []  # (expansion, units) = sum of (.., units[, positions])
        for layer, part in zip(layers, parts, strict=True):
            if factors.incoming:
                self._scale[part] *= layer.incoming.weight[0].numel()
                self._plan_rows(layer, self._incoming[part])
            if factors.outgoing:
                features = layer.expansion * layer.units
                self._scale[part] /= sum(module.weight.numel() for module in layer.outgoing) // features
                self._plan_columns(layer, self._outgoing[part])
        self._blocks = self._plan_blocks(weight)

    def _plan_rows(self, layer: HiddenLayer, target: Tensor) -> None:
        if layer.expansion == 1:
            self._rows[layer.incoming] = target
        else:
            sums = self._rows[layer.incoming] = target.new_empty(layer.units)
            self._gathered.append((target.view(layer.expansion, -1), [sums.view(1, -1, 1)]))

    def _plan_columns(self, layer: HiddenLayer, target: Tensor) -> None:
        if len(layer.outgoing) == 1 and layer.outgoing[0].weight[0].numel() == target.numel():
            self._columns[layer.outgoing[0]] = target
        else:
            for module in layer.outgoing:
                self._columns[module] = target.new_empty(module.weight[0].numel())
            sums = [self._columns[module].view(layer.expansion, layer.units, -1) for module in layer.outgoing]
            self._gathered.append((target.view(layer.expansion, -1), sums))

    def _plan_blocks(self, like: Tensor) -> list[tuple[WeightLayer, list[tuple[slice, Tensor]]]]:
        """Per module the ranges of rows that are read at once, each with the memory for their absolute values."""
        modules = list(dict.fromkeys([*self._rows, *self._columns]))
        shapes = [(len(module.weight), module.weight[0].numel()) for module in modules]
        whole = max((rows * columns for rows, columns in shapes), default=0)
        limit = BLOCK if like.device.type == "cpu" else whole
        heights = [max(1, min(rows, limit // columns)) for rows, columns in shapes]
        scratch = like.new_empty(max((h * columns for h, (_, columns) in zip(heights, shapes, strict=True)), default=0))
        plan = []
        for module, height, (rows, columns) in zip(modules, heights, shapes, strict=True):
            ranges = [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
            memory = [scratch[: (r.stop - r.start) * columns].view(-1, columns) for r in ranges]
            plan.append((module, list(zip(ranges, memory, strict=True))))
        return plan

    def multiply(self, y: Tensor) -> None:
        """y (features,) *= mean abs outgoing / mean abs incoming, in place, as far as the factors ask for it."""
        for module, blocks in self._blocks:
            self._sum(module.weight.flatten(1), blocks, self._rows.get(module), self._columns.get(module))
        for target, sums in self._gathered:
            target.copy_(sums[0].sum(2))
            for other in sums[1:]:
                target += other.sum(2)
        if self._factors.outgoing:
            y.mul_(self._outgoing)
        if self._factors.incoming:
            y.div_(self._incoming.clamp_min_(SMALLEST_MAGNITUDE))
        y.mul_(self._scale)

    @staticmethod
    def _sum(weight: Tensor, blocks: list[tuple[slice, Tensor]], rows: Tensor | None, columns: Tensor | None) -> None:
        """Sums of abs(weight (out, in)) over each row into `rows` and over each column into `columns`."""
        for i, (part, magnitude) in enumerate(blocks):
            torch.abs(weight if len(blocks) == 1 else weight[part], out=magnitude)
            if rows is not None:
                torch.sum(magnitude, 1, out=rows if len(blocks) == 1 else rows[part])
            if columns is not None and i == 0:
                torch.sum(magnitude, 0, out=columns)
            elif columns is not None:
                columns += magnitude.sum(0)
