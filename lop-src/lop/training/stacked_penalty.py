"""The members' penalties in a stack: functions of their own parameters, as functions of the stacked ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Values = Sequence[Tensor | None]


def stacked_penalty(penalties: Callable[[], Values], owners: Sequence[Sequence[Tensor]], params: Sequence[Tensor]):
    """(S,), twice differentiable in the stacked parameters. None: no member has a penalty.

    penalties() -> each member's, a scalar made of its own parameters (leaves, whose values must stay those of the
    stacked ones until all derivatives are taken), or None. owners: of each stacked parameter the members' own ones.
    """
    with torch.enable_grad():
        values = penalties()
    if all(value is None for value in values):
        return None
    return _Values.apply(values, list(zip(*owners, strict=True)), *params)


class _Values(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Values, leaves: Sequence[Sequence[Tensor]], *params: Tensor) -> Tensor:
        ctx.values, ctx.leaves = values, leaves
        ctx.save_for_backward(*params)
        some = next(value for value in values if value is not None)
        return torch.stack([some.new_zeros(()) if value is None else value.detach() for value in values])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        if torch.is_grad_enabled():  # a second derivative is wanted
            slopes = _Slopes.apply(ctx.values, ctx.leaves, *ctx.saved_tensors)
        else:
            slopes = _stacked(_slopes(ctx.values, ctx.leaves, create_graph=False))
        return None, None, *(s * grad.view(-1, *[1] * (s.dim() - 1)) for s in slopes)


class _Slopes(torch.autograd.Function):
    """The gradients, stacked."""

    @staticmethod
    def forward(ctx, values: Values, leaves: Sequence[Sequence[Tensor]], *params: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            ctx.slopes = _slopes(values, leaves, create_graph=True)
        ctx.leaves = leaves
        return _stacked([[s.detach() for s in slopes] for slopes in ctx.slopes])

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple:
        products: list[Sequence[Tensor]] = []
        for slopes, leaves, *rows in zip(ctx.slopes, ctx.leaves, *grads, strict=True):
            curved = [(s, row) for s, row in zip(slopes, rows, strict=True) if s.requires_grad]
            if not curved:
                products.append([torch.zeros_like(p) for p in leaves])
                continue
            outputs, weights = zip(*curved, strict=True)
            products.append(_gradients(outputs, leaves, grad_outputs=weights))
        return None, None, *_stacked(products)


def _slopes(values: Values, leaves: Sequence[Sequence[Tensor]], *, create_graph: bool) -> list[Sequence[Tensor]]:
    pairs = zip(values, leaves, strict=True)
    return [
        [torch.zeros_like(p) for p in own] if value is None else _gradients([value], own, create_graph=create_graph)
        for value, own in pairs
    ]


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor], **options) -> Sequence[Tensor]:
    return torch.autograd.grad(outputs, leaves, retain_graph=True, allow_unused=True, materialize_grads=True, **options)


def _stacked(members: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(column) for column in zip(*members, strict=True))
