"""Sums over all parameters of a function of their distance to an anchor: value, gradient, curvature.

A penalty is part of every step. Written parameter by parameter for autograd it costs as much as the pass itself in a
small net, and in a large one several passes over memory. Here the gradient is known in closed form: a step that wants
nothing else adds it to the loss's; else the sum is one node of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lop.algos.base import Intervention
from lop.algos.layout import per_member
from lop.optimizers.multi_tensor import Tensors, blocks, spread


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


@dataclass(frozen=True)
class Distance:
    """weight * sum scale * f(p - anchor) over the entries of all parameters; f is what a subclass is named for.

    anchors: None: 0. weight: of a stack, whose tensors are (S, ...), one number or one for each member (S,). scales: of
    every entry; None: 1.
    """

    parameters: Tensors
    anchors: Tensors | None
    weight: float | Tensor
    scales: Tensors | None = None

    def value(self, *, stacked: bool = False) -> Tensor:
        """Differentiable twice; of a stack each member's, (S,)."""

        def slope(differences: Tensors) -> Tensors:
            return self._slopes(differences, self.scales)

        value = _Sum.apply(lambda d, s: self._sum(d, s, stacked), slope, self.anchors, *self.parameters)
        return value * per_member(self.weight, value)

    def add_gradient(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """Add that of each parameter to what is given for it, in place, block by block."""
        columns: list[Tensors] = [[gradients[p] for p in self.parameters], self.parameters]
        columns += [column for column in (self.anchors, self.scales) if column is not None]
        weight = self.weight
        for targets, parameters, *others in [columns] if isinstance(weight, Tensor) else blocks(*columns):
            differences = parameters if self.anchors is None else torch._foreach_sub(parameters, others[0])
            slopes = self._slopes(differences, None if self.scales is None else others[-1])
            if isinstance(weight, Tensor):
                for target, s in zip(targets, slopes, strict=True):
                    target.addcmul_(s, spread(weight.to(s.dtype), s))
            else:
                torch._foreach_add_(targets, slopes, alpha=weight)

    @staticmethod
    def _sum(differences: Tensors, slopes: Tensors, stacked: bool) -> Tensor:
        """Without the weight, from its slopes."""
        raise NotImplementedError

    def _slopes(self, differences: Tensors, scales: Tensors | None) -> Tensors:
        """Its derivatives. The differences must stay as they are: they may be the parameters."""
        raise NotImplementedError


class HalfSquares(Distance):
    """0.5 d^2."""

    @staticmethod
    def _sum(differences: Tensors, slopes: Tensors, stacked: bool) -> Tensor:
        return 0.5 * _dot(differences, slopes, stacked)

    def _slopes(self, differences: Tensors, scales: Tensors | None) -> Tensors:
        return differences if scales is None else torch._foreach_mul(differences, scales)


class Absolutes(Distance):
    """abs(d); without scales."""

    @staticmethod
    def _sum(differences: Tensors, slopes: Tensors, stacked: bool) -> Tensor:
        return _dot(differences, slopes, stacked)

    def _slopes(self, differences: Tensors, scales: Tensors | None) -> Tensors:
        return torch._foreach_sign(differences)


@dataclass(frozen=True)
class Huber(Distance):
    """0.5 d^2 up to `delta`, linear beyond; without scales."""

    delta: float = 1.0

    @staticmethod
    def _sum(differences: Tensors, slopes: Tensors, stacked: bool) -> Tensor:
        return _dot(differences, slopes, stacked) - 0.5 * _dot(slopes, slopes, stacked)

    def _slopes(self, differences: Tensors, scales: Tensors | None) -> Tensors:
        return torch._foreach_clamp_max(torch._foreach_clamp_min(differences, -self.delta), self.delta)


class DistancePenalty(Intervention):
    """Base of the penalties that are such sums: a subclass says which, at the parameters' present values."""

    def terms(self) -> Sequence[Distance]:
        """The penalty is their sum; none: there is no penalty at present."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        values = [term.value(stacked=self.stacked) for term in self.terms()]
        return sum(values[1:], start=values[0]) if values else None

    def add_penalty_gradient(self, gradients: Mapping[Tensor, Tensor]) -> None:
        for term in self.terms():
            term.add_gradient(gradients)
