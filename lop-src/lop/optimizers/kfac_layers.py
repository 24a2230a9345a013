"""What K-FAC needs of a layer's passes: inputs and output gradients as matrices."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from lop.nets.layer_io import WeightLayer, input_rows, multiplies_rows, output_rows, unshared


def supported_layers(model: nn.Module, params: Iterable[Tensor]) -> list[WeightLayer]:
    """The Linear and Conv2d modules (no groups, zero padding in numbers) all of whose parameters are among `params`,
    and in no other module."""
    ids = {id(p) for p in params}
    return [m for m in unshared(model) if multiplies_rows(m) and all(id(p) in ids for p in m.parameters())]


def weight_uses(loss: Tensor) -> tuple[dict[int, int], set[Node]]:
    """How often every leaf enters the graph of the loss, {id(leaf): edges}, and the nodes of that graph.

    A weight that enters once per call of its layer has no other part in the loss (no penalty, no tied use), so its
    gradient is exactly output gradients x inputs, and need not be computed as a matrix.
    """
    uses: dict[int, int] = {}
    assert loss.grad_fn is not None  # `_forward` has refused a loss without a graph
    seen, stack = {loss.grad_fn}, [loss.grad_fn]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is None:
                continue
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                uses[id(leaf)] = uses.get(id(leaf), 0) + 1
            elif node not in seen:
                seen.add(node)
                stack.append(node)
    return uses, seen


def input_matrix(layer: WeightLayer, inputs: Tensor) -> Tensor:
    """(rows, features): the rows of all samples and positions, with a 1 for the bias."""
    rows = input_rows(layer, inputs).flatten(0, 1)
    if layer.bias is None:
        return rows
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def output_matrix(layer: nn.Module, grads: Tensor) -> Tensor:
    """(rows, out): the output gradients, in the order of `input_matrix`."""
    return output_rows(layer, grads).flatten(0, 1)
