"""Where the units of several layers lie, when what is known of all of them is one tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lop.nets import HiddenLayer
from lop.nets.layer_io import WeightLayer
from lop.utils.state import FEATURES, UNITS, Axis


class UnitLayout:
    """Of the layers whose units may be reset, as all readers of their features are known.

    First the layers whose features are maps, then those of single features: so these are one piece.
    layers: in the net's order; `dense` and `maps` are those of either sort.
    """

    def __init__(self, hidden_layers: Sequence[HiddenLayer], like: Tensor):
        """hidden_layers: all of a net's. like: a parameter."""
        self._positions = {layer: i for i, layer in enumerate(hidden_layers) if layer.outgoing}
        self.layers = list(self._positions)
        self.device, self.dtype = like.device, like.dtype
        self.lead: tuple[int, ...] = ()  # sizes of the dimensions before all others: the members', in a stack
        self._parameter: Callable[[Tensor], Tensor] = lambda p: p
        self.dense = [layer for layer in self.layers if isinstance(layer.incoming, nn.Linear)]
        self.maps = [layer for layer in self.layers if layer not in self.dense]
        self._parts: dict[Axis, dict[HiddenLayer, slice]] = {UNITS: {}, FEATURES: {}}
        self._size: dict[Axis, int] = {UNITS: 0, FEATURES: 0}
        for layer in (*self.maps, *self.dense):
            for axis, number in ((UNITS, layer.units), (FEATURES, layer.expansion * layer.units)):
                start = self._size[axis]
                self._size[axis] += number
                self._parts[axis][layer] = slice(start, start + number)

    def stacked(self, members: int, parameter: Callable[[Tensor], Tensor]) -> UnitLayout:
        """Of so many nets at once: what lies along it is (members, ...). parameter: from this net's to the stacked."""
        layout = copy.copy(self)
        layout.lead, layout._parameter = (members,), parameter
        return layout

    def weight(self, module: WeightLayer) -> Tensor:
        """A layer's weight (out, ...), of a stack (members, out, ...)."""
        return self._parameter(module.weight)

    def __contains__(self, layer: HiddenLayer) -> bool:
        return layer in self._positions

    def features(self, layer: HiddenLayer, features: Sequence[Tensor]) -> Tensor:
        """A layer's among those of all hidden layers."""
        return features[self._positions[layer]]

    def size(self, axis: Axis) -> int:
        """Of all layers together."""
        return self._size[axis]

    def part(self, axis: Axis, layer: HiddenLayer) -> slice:
        """Where a layer's units, or their features, lie."""
        return self._parts[axis][layer]

    def read(self, layer: HiddenLayer, features: Sequence[Tensor]) -> Tensor:
        """As `features`, as the layer's readers see them."""
        own = self.features(layer, features)
        if layer.pooling is None or not self.lead:
            return layer.as_read(own)
        return layer.as_read(own.flatten(0, 1)).unflatten(0, own.shape[:2])

    def joined(self, parts: Mapping[HiddenLayer, Tensor]) -> Tensor:
        """Of all layers, from those of each, whose last dimension is the units'."""
        return torch.cat([parts[layer] for layer in (*self.maps, *self.dense)], -1)

    def along(self, tensor: Tensor, dim: int, axis: Axis, layer: HiddenLayer) -> Tensor:
        """A layer's part of a tensor whose dimension `dim` (from the end) is the axis: a view (.., units, ..), or,
        where the axis is the features', (.., expansion, units, ..)."""
        part = self._parts[axis][layer]
        own = tensor.narrow(dim, part.start, part.stop - part.start)
        return own if axis is UNITS else own.unflatten(dim, (layer.expansion, layer.units))


def per_member(number: float | Tensor, like: Tensor) -> float | Tensor:
    """An option that is one number, or one for each member (S,), shaped so that it multiplies a tensor (S, ...)."""
    if not isinstance(number, Tensor):
        return number
    return number.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def lerp_(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float | Tensor) -> None:
    """tensors += weight (ends - tensors), weight as in `per_member`."""
    if not isinstance(weight, Tensor):
        torch._foreach_lerp_(list(tensors), list(ends), weight)
        return
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.lerp_(end, per_member(weight, tensor))
