"""What K-FAC needs of a layer's passes: inputs and output gradients as matrices, recorded during one closure call."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn.functional import unfold


class Call(NamedTuple):
    """One call of a layer: its input, the edge of the graph where its output's gradient arrives, and how many rows
    these are as matrices (samples times positions)."""

    layer: nn.Module
    inputs: Tensor
    output: GradientEdge
    rows: int


def supported_layers(model: nn.Module, params: Iterable[Tensor]) -> list[nn.Module]:
    """The Linear and Conv2d modules (no groups, zero padding in numbers) all of whose parameters are among `params`,
    and in no other module."""
    ids = {id(p) for p in params}
    modules = list(model.modules())
    owners = Counter(id(p) for module in modules for p in module.parameters(recurse=False))

    def fits(module: nn.Module) -> bool:
        if isinstance(module, nn.Conv2d):
            plain = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        else:
            plain = isinstance(module, nn.Linear)
        return plain and all(id(p) in ids and owners[id(p)] == 1 for p in module.parameters())

    return [module for module in modules if fits(module)]


@contextmanager
def recorded_calls(layers: Iterable[nn.Module]) -> Iterator[list[Call]]:
    """The layers' calls made inside. The hooks exist inside only: evaluation and other passes are never seen.

    The edge is taken right after the layer has run, so that it stays the layer's own where a later operation
    (an in-place activation) overwrites the output.
    """
    calls: list[Call] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            rows = output.numel() // len(layer.weight)
            calls.append(Call(layer, inputs[0].detach(), get_gradient_edge(output), rows))

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def weight_uses(loss: Tensor) -> tuple[dict[int, int], set[Node]]:
    """How often every leaf enters the graph of the loss, {id(leaf): edges}, and the nodes of that graph.

    A weight that enters once per call of its layer has no other part in the loss (no penalty, no tied use), so its
    gradient is exactly output gradients x inputs, and need not be computed as a matrix.
    """
    uses: dict[int, int] = {}
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


def input_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(rows, features): what the layer's weight, as a matrix (out, features), is multiplied with; a 1 for the bias.

    One row per sample, and per position where a Conv2d (or a Linear on sequences) is applied at several.
    """
    if isinstance(layer, nn.Conv2d):
        patches = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        rows = patches.transpose(1, 2).flatten(0, 1)
    else:
        rows = inputs.reshape(-1, inputs.shape[-1])
    if layer.bias is None:
        return rows
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def output_rows(layer: nn.Module, grads: Tensor) -> Tensor:
    """(rows, out): the output gradients, in the order of `input_rows`."""
    if isinstance(layer, nn.Conv2d):
        return grads.flatten(2).transpose(1, 2).flatten(0, 1)
    return grads.reshape(-1, grads.shape[-1])
