"""How useful a hidden unit is: the running statistics of continual backprop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lop.nets import HiddenLayer

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

    def _of(self, i: int) -> Tensor:
        """(3, expansion, units), a view."""
        return self.running[:, self._parts[i]].view(3, self._layers[i].expansion, -1)


class WeightMagnitudes:
    """Multiplies by the mean abs outgoing and divides by the mean abs incoming weights of all units.

    A weight that is outgoing for one layer and incoming for the next is read once.
    """

    def __init__(self, layers: Sequence[HiddenLayer], parts: Sequence[slice], factors: Factors, size: int):
        self._layers, self._parts, self._factors = layers, parts, factors
        self._modules: dict[nn.Module, tuple[bool, bool]] = {}  # whether sums of rows, of columns are needed
        weight = layers[0].incoming.weight
        self._scale = weight.new_ones(size)
        for layer, part in zip(layers, parts, strict=True):
            if factors.incoming:
                self._modules[layer.incoming] = (True, self._modules.get(layer.incoming, (False, False))[1])
                self._scale[part] *= layer.incoming.weight[0].numel()
            if factors.outgoing:
                for module in layer.outgoing:
                    self._modules[module] = (self._modules.get(module, (False, False))[0], True)
                entries = sum(module.weight.numel() for module in layer.outgoing)
                self._scale[part] /= entries // (layer.expansion * layer.units)
        self._incoming, self._outgoing = weight.new_empty(size), weight.new_empty(size)
        sizes = [module.weight.numel() for module in self._modules]
        block = max(BLOCK, *(m.weight[0].numel() for m in self._modules)) if weight.device.type == "cpu" else max(sizes)
        self._scratch = weight.new_empty(min(block, max(sizes))) if sizes else None

    def multiply(self, y: Tensor) -> None:
        """y (features,) *= mean abs outgoing / mean abs incoming, in place, as far as the factors ask for it."""
        if not self._modules:
            return
        sums = {module: self._sums(module.weight, *needed) for module, needed in self._modules.items()}
        y.mul_(self._scale)
        if self._factors.outgoing:
            for layer, part in zip(self._layers, self._parts, strict=True):
                out = self._outgoing[part].view(layer.expansion, layer.units, 1)
                first, *others = [sums[module][1].view(layer.expansion, layer.units, -1) for module in layer.outgoing]
                torch.sum(first, 2, keepdim=True, out=out)
                for other in others:
                    out += other.sum(2, keepdim=True)
            y.mul_(self._outgoing)
        if self._factors.incoming:
            for layer, part in zip(self._layers, self._parts, strict=True):
                self._incoming[part].view(layer.expansion, -1).copy_(sums[layer.incoming][0])
            y.div_(self._incoming.clamp_min_(SMALLEST_MAGNITUDE))

    def _sums(self, weight: Tensor, rows: bool, columns: bool) -> tuple[Tensor | None, Tensor | None]:
        """Sums of abs(weight (out, ...)) over each row (out,) and each column (in,), in one pass over the memory."""
        weight = weight.flatten(1)
        height = max(1, self._scratch.numel() // weight.shape[1])
        row_sums, column_sums = [], None
        for block in weight.split(height):
            magnitude = torch.abs(block, out=self._scratch[: block.numel()].view(block.shape))
            if rows:
                row_sums.append(magnitude.sum(1))
            if columns:
                sums = magnitude.sum(0)
                column_sums = sums if column_sums is None else column_sums.add_(sums)
        if not rows:
            return None, column_sums
        return row_sums[0] if len(row_sums) == 1 else torch.cat(row_sums), column_sums
