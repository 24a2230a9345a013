"""Layers of many nets at once: parameters (S, ...), inputs (S, batch, ...), as batched matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lop.nets.activations import CReLU, SmoothLeaky
from lop.nets.base import Net


class _Product(torch.autograd.Function):
    """x W^T + b of each member, whose derivatives, second ones included, lie in memory as the weights do.

    Autograd's own derivative of a product by its transposed factor is transposed: every operation that meets it and
    a weight (an update, a norm) then reads one of them out of order.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.bmm(grad, weight) if of_x else None,
            torch.bmm(grad.transpose(1, 2), x) if of_weight else None,
            grad.sum(1) if of_bias else None,
        )


class BatchedLinear(nn.Module):
    """nn.Linear of S nets: weight (S, out, in), bias (S, out) or None; (S, ..., in) -> (S, ..., out)."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 3 else x.flatten(1, -2)
        outputs = _Product.apply(flat, self.weight, self.bias)
        return outputs if x.dim() == 3 else outputs.unflatten(1, x.shape[1:-1])


class BatchedLayerNorm(nn.Module):
    """nn.LayerNorm of S nets, over the last dimensions `shape`: weight and bias (S, *shape) or None."""

    def __init__(self, shape: tuple[int, ...], eps: float, weight: nn.Parameter | None, bias: nn.Parameter | None):
        super().__init__()
        self.shape, self.eps = shape, eps
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        normal = nn.functional.layer_norm(x, self.shape, eps=self.eps)
        between = [1] * (x.dim() - 1 - len(self.shape))
        if self.weight is not None:
            normal = normal * self.weight.view(len(x), *between, *self.shape)
        if self.bias is not None:
            normal = normal + self.bias.view(len(x), *between, *self.shape)
        return normal


def _linear(layer: Any) -> nn.Module:
    return BatchedLinear(layer.weight, layer.bias)


def _layer_norm(layer: Any) -> nn.Module:
    return BatchedLayerNorm(layer.normalized_shape, layer.eps, layer.weight, layer.bias)


def _flatten(layer: nn.Flatten) -> nn.Module:
    layer.start_dim, layer.end_dim = (d + 1 if d >= 0 else d for d in (layer.start_dim, layer.end_dim))
    return layer


def _crelu(layer: CReLU) -> nn.Module:
    layer.dim += 1
    return layer


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer


ENTRYWISE = (nn.ReLU, nn.LeakyReLU, SmoothLeaky, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SiLU, nn.Identity)

BATCHED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Flatten: _flatten,
    CReLU: _crelu,
    **dict.fromkeys((*ENTRYWISE, nn.Sequential), _as_it_is),
}
"""By a layer's class, exactly: what makes its counterpart for S nets of it, whose parameters are stacked already. An
activation stays the object it is, for whoever watches it."""


def is_layerwise(net: Net) -> bool:
    """Whether the net is its layers one after the other, all of which have a counterpart here."""
    author = next(kind for kind in type(net).__mro__ if "forward" in vars(kind))  # who wrote forward can say so
    layers = [layer for layer in net.modules() if layer is not net]
    known = all(type(layer) in BATCHED for layer in layers) and not any(h.units_last for h in net.hidden_layers())
    return vars(author).get("layerwise", False) and known


def batch_layers(module: nn.Module) -> None:
    """Puts the layers' counterparts in their places, in a net whose parameters are stacked (S, ...)."""
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        for name, layer in parent._modules.items():
            if layer is not None:
                if layer not in made:
                    made[layer] = BATCHED[type(layer)](layer)
                parent._modules[name] = made[layer]
