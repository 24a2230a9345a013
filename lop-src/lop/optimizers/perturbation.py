"""The sharpness-aware perturbation: parameters moved by a fixed distance along a direction."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lop.optimizers.multi_tensor import Number, Tensors, global_norm, spread


def perturb(
    params: Tensors,
    directions: Tensors,
    rho: Number,
    out: Tensors,
    *,
    scales: Sequence[Tensor | None] | None = None,
    stacked: bool = False,
) -> None:
    """out = p + e, e = rho * g / (norm(g) + 1e-12), the norm over all parameters together (Foret et al., 2021).

    rho: negative moves against the directions. scales: T per parameter, shaped like it, or None for those with T = 1;
    then e = rho * T^2 * g / (norm(T * g) + 1e-12) (Kwon et al., 2021). stacked: the tensors are (S, ...), each member
    with a norm of its own, and rho one for all or each one's (S,).
    """
    if scales is not None:
        for g, scale, target in zip(directions, scales, out, strict=True):
            target.copy_(g) if scale is None else torch.mul(scale, g, out=target)
        length = rho / (global_norm(out, stacked=stacked) + 1e-12)
        for scale, target in zip(scales, out, strict=True):
            if scale is not None:
                target.mul_(scale)
        _multiply(out, length)
        torch._foreach_add_(out, params)
        return
    length = global_norm(directions, stacked=stacked).add_(1e-12)
    if length.is_cuda or isinstance(rho, Tensor):
        torch._foreach_copy_(out, directions)
        _multiply(out, rho / length)
        torch._foreach_add_(out, params)
    else:
        for p, g, target in zip(params, directions, out, strict=True):
            torch.addcdiv(p, g, spread(length, p), value=rho, out=target)


def _multiply(tensors: Tensors, number: Tensor) -> None:
    """By one number, or by one for each member."""
    if number.dim():
        torch._foreach_mul_(tensors, [spread(number, t) for t in tensors])
    else:
        torch._foreach_mul_(tensors, number)
