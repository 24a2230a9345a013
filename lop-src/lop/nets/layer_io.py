"""What flows into and out of a layer: its inputs and its outputs' gradients, as rows of matrices.

For a Linear or Conv2d with weight W, as a matrix (out, features), the gradient of a loss is the sum over rows of
(gradient at the output) x (input): K-FAC's factors and the Gram matrices of the NTK are made of the same two parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.functional import unfold

WeightLayer = nn.Linear | nn.Conv2d
"""A layer that multiplies what flows in by its weight; the weight's rows belong to its units, or filters."""


class Call(NamedTuple):
    """One call of a layer: its input, and the edge of the graph where its output's gradient arrives.

    layer: a module; of which kind is known to whoever records. outputs: entries of the output.
    """

    layer: Any
    inputs: Tensor
    output: GradientEdge
    outputs: int

    @property
    def rows(self) -> int:
        """Of the matrices: samples times positions."""
        return self.outputs // len(self.layer.weight)


@contextmanager
def recorded_calls(layers: Iterable[nn.Module]) -> Iterator[list[Call]]:
    """The layers' calls made inside. The hooks exist inside only: evaluation and other passes are never seen.

    The edge is taken right after the layer has run, so that it stays the layer's own where a later operation
    (an in-place activation) overwrites the output.
    """
    calls: list[Call] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            calls.append(Call(layer, inputs[0].detach(), get_gradient_edge(output), output.numel()))

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def unshared(model: nn.Module) -> list[nn.Module]:
    """The modules none of whose own parameters belongs to another module, too."""
    modules = list(model.modules())
    owners = Counter(id(p) for module in modules for p in module._parameters.values() if p is not None)
    return [m for m in modules if all(owners[id(p)] == 1 for p in m.parameters(recurse=False))]


def multiplies_rows(module: nn.Module) -> TypeGuard[WeightLayer]:
    """Whether it is a Linear, or a Conv2d whose patches `input_rows` can cut: no groups, zero padding in numbers."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def input_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(samples, positions, features): what the layer's weight, as a matrix (out, features), is multiplied with.

    Positions: where a Conv2d is applied, or a Linear on sequences; else 1.
    """
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)  # as `multiplies_rows` says
        return unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)
    return inputs.reshape(len(inputs), -1, inputs.shape[-1])


def output_rows(layer: nn.Module, grads: Tensor) -> Tensor:
    """(samples, positions, out): the gradients at the outputs, in the order of `input_rows`."""
    if isinstance(layer, nn.Conv2d):
        return grads.flatten(2).transpose(1, 2)
    return grads.reshape(len(grads), -1, grads.shape[-1])
