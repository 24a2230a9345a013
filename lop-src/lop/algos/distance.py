"""Sums over all parameters of a function of their distance to an anchor, as one node of the graph.

A penalty is evaluated in every pass of every step. Written parameter by parameter it costs as much as the pass
itself in a small net; here the gradient is known in closed form and handled by multi-tensor operations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lop.algos.layout import per_member

Tensors = list[Tensor] | tuple[Tensor, ...]  # what torch's multi-tensor operations take


def _dot(a: Tensors, b: Tensors, stacked: bool) -> Tensor:
    if stacked:
        products = [torch.linalg.vecdot(x.flatten(1), y.flatten(1)) for x, y in zip(a, b, strict=True)]
        return torch.stack(products).sum(0)
    return torch.stack([torch.dot(x.reshape(-1), y.reshape(-1)) for x, y in zip(a, b, strict=True)]).sum()


def _times(tensors: Tensors, factor: Tensor) -> Tensors:
    """By one number, or by one for each member."""
    if factor.dim():
        return [t * per_member(factor, t) for t in tensors]
    return torch._foreach_mul(tensors, factor)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Callable, slope: Callable, anchors: Tensors | None, *parameters: Tensor) -> Tensor:
        differences = parameters if anchors is None else torch._foreach_sub(parameters, anchors)
        ctx.slope, ctx.anchors, ctx.slopes = slope, anchors, slope(differences)
        ctx.save_for_backward(*parameters)
        return value(differences, ctx.slopes)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        slopes = ctx.slopes
        if torch.is_grad_enabled():  # a second derivative is wanted
            parameters = ctx.saved_tensors
            slopes = ctx.slope(parameters if ctx.anchors is None else torch._foreach_sub(parameters, ctx.anchors))
        return None, None, None, *_times(slopes, grad)


def half_squares(
    parameters: Tensors, anchors: Tensors | None = None, scales: Tensors | None = None, *, stacked: bool = False
) -> Tensor:
    """0.5 * sum scale * (p - anchor)^2, differentiable twice. None: anchors 0, scales 1.

    stacked, here and below: the tensors are (S, ...), and the sum is each member's, (S,).
    """

    def slope(differences: Tensors) -> Tensors:
        return differences if scales is None else torch._foreach_mul(scales, differences)

    return _Sum.apply(lambda d, s: 0.5 * _dot(d, s, stacked), slope, anchors, *parameters)


def absolutes(parameters: Tensors, anchors: Tensors, *, stacked: bool = False) -> Tensor:
    """sum abs(p - anchor)."""
    return _Sum.apply(lambda d, s: _dot(d, s, stacked), torch._foreach_sign, anchors, *parameters)


def huber(parameters: Tensors, anchors: Tensors, delta: float, *, stacked: bool = False) -> Tensor:
    """sum huber(p - anchor): 0.5 d^2 up to `delta`, linear beyond."""

    def slope(differences: Tensors) -> Tensors:
        return torch._foreach_clamp_max(torch._foreach_clamp_min(differences, -delta), delta)

    return _Sum.apply(lambda d, s: _dot(d, s, stacked) - 0.5 * _dot(s, s, stacked), slope, anchors, *parameters)
