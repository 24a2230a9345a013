"""What every net tells about itself: its hidden layers, and the features they compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from lop.nets.layer_io import WeightLayer
from lop.nets.taps import NthCall, Tap, TappedCalls
from lop.utils.errors import UserError
from lop.utils.registry import Registry


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """One hidden layer. Interventions and diagnostics touch a net only through this description.

    incoming: the Linear or Conv2d that computes the units (rows of its weight are units, or filters).
    norm: the normalisation between `incoming` and `activation`, or None.
    activation: the module whose output is the layer's features, (batch, features) or (batch, features, h, w).
    outgoing: every Linear or Conv2d that reads the features; empty where the readers are not all known
        (a residual stream): such units are measured but must not be reset.
    expansion: features per unit, 2 for CReLU (all positive parts first, then all negative parts), else 1.
    pooling: the module between `activation` and its readers, or None where they read the features as they are.
    units_last: the activation's output is (batch, ..., features), as a Linear on sequences has it; what is recorded of
        it is (batch, features, ...).
    overwritten: whether the net works in place in the activation's output; what is recorded of it is a copy then.

    A reset of a unit whose outgoing weights are 0 leaves the net's outputs as they are, unless the layer `is_coupled`.
    """

    name: str
    incoming: WeightLayer
    norm: nn.Module | None
    activation: nn.Module
    outgoing: tuple[WeightLayer, ...]
    expansion: int = 1
    pooling: nn.Module | None = None
    units_last: bool = False
    overwritten: bool = False

    @property
    def is_coupled(self) -> bool:
        """Whether `norm` takes its mean and variance over several units of an example (LayerNorm, RMSNorm, GroupNorm).

        A unit's new weights then move those two numbers, and so the other units of the example (or of the group): by
        little where there are many units, never by nothing. BatchNorm and InstanceNorm treat each unit by itself.
        """
        norm = self.norm
        return isinstance(norm, nn.LayerNorm | nn.RMSNorm) or (
            isinstance(norm, nn.GroupNorm) and norm.num_groups < norm.num_channels
        )

    @property
    def units(self) -> int:
        return self.incoming.weight.shape[0]

    def as_read(self, features: Tensor) -> Tensor:
        """The features as the readers see them."""
        return features if self.pooling is None else self.pooling(features)

    def outgoing_weight(self, module: WeightLayer) -> Tensor:
        """The weight of one outgoing module as a view (outputs, expansion, units, positions).

        positions: kernel positions of a Conv2d, or pixels per map where a Linear reads flattened maps.
        """
        return self.by_unit(module.weight)

    def by_unit(self, weight: Tensor) -> Tensor:
        """The same view of a tensor like an outgoing module's weight."""
        return weight.view(weight.shape[0], self.expansion, self.units, -1)


NETS: Registry[type[Net]] = Registry("net")
net = NETS.register
"""Decorator: `@net("name")` on a Net; it is built as `cls(input_shape, num_outputs, **options)`."""


class Net(nn.Module):
    """forward(x) -> outputs (batch, num_outputs), plus the description of the hidden layers, input to output."""

    layerwise: ClassVar[bool] = False
    """Whether `forward` does nothing but call layers one after the other, so that it is also the forward pass of many
    nets when each layer is (`lop.nets.batched`). Said by the class that writes `forward`, of that one alone."""

    def hidden_layers(self) -> list[HiddenLayer]:
        raise NotImplementedError

    def input_layers(self) -> list[WeightLayer]:
        """The hidden layers' Linears or Conv2ds that read the inputs; none where the net is linear."""
        return [layer.incoming for layer in self.hidden_layers()[:1]]

    def output_layer(self) -> nn.Linear:
        """The head: the Linear that computes the outputs."""
        raise NotImplementedError

    def output_layers(self) -> list[nn.Linear]:
        """All heads, for nets that have several."""
        return [self.output_layer()]


class FeatureRecorder:
    """Records the output of every hidden activation during the forward passes made while it is `recording`.

    Hooks are installed once; when not recording they cost one attribute test. Activations that are no modules are
    watched for while it is recording. `features` holds the last recorded pass, one tensor per hidden layer, in the
    order of `hidden_layers()`; before it, empty ones. keep_graph: they can be differentiated; else they are detached.
    """

    def __init__(self, layers: Sequence[HiddenLayer], *, keep_graph: bool = False):
        self.recording = False
        self._keep_graph = keep_graph
        self.features = [torch.empty(0)] * len(layers)
        self._handles = []
        tapped: dict[int, Callable[[Tensor], None]] = {}
        for i, layer in enumerate(layers):
            keep = partial(self._keep, i, layer)
            if isinstance(layer.activation, Tap):
                tapped[layer.activation.call] = keep
            elif isinstance(layer.activation, NthCall):
                self._handles.append(layer.activation.module.register_forward_hook(partial(self._count, layer, keep)))
            else:
                self._handles.append(layer.activation.register_forward_hook(partial(self._hook, keep)))
        self._tapped = TappedCalls(tapped) if tapped else None
        self._counts: Counter[HiddenLayer] = Counter()  # calls of the activations that are called more than once

    def _keep(self, index: int, layer: HiddenLayer, output: Tensor) -> None:
        features = output if self._keep_graph else output.detach()
        features = features.clone() if layer.overwritten else features
        self.features[index] = features.movedim(-1, 1) if layer.units_last else features

    def _hook(self, keep: Callable[[Tensor], None], module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if self.recording:
            keep(output)

    def _count(
        self, layer: HiddenLayer, keep: Callable[[Tensor], None], module: nn.Module, inputs: tuple, output: Tensor
    ) -> None:
        assert isinstance(layer.activation, NthCall)
        if self.recording:
            if self._counts[layer] == layer.activation.index:
                keep(output)
            self._counts[layer] += 1

    def __enter__(self) -> FeatureRecorder:
        self.recording = True
        self._counts.clear()
        if self._tapped is not None:
            self._tapped.__enter__()
        return self

    def __exit__(self, *exc) -> None:
        self.recording = False
        if self._tapped is not None:
            self._tapped.__exit__(*exc)

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


def require_images(input_shape: Sequence[int]) -> None:
    """Raises UserError for inputs that a convolution cannot read."""
    if len(input_shape) != 3:
        raise UserError(f"this net needs images (C, H, W), got inputs {tuple(input_shape)}", option="name", joint=": ")
