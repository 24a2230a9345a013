"""The sharpness-aware perturbation: parameters moved uphill by a fixed distance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lop.optimizers.multi_tensor import global_norm


def ascent(
    params: Sequence[Tensor],
    directions: Sequence[Tensor],
    rho: float,
    out: Sequence[Tensor],
    *,
    adaptive: bool = False,
) -> None:
    """out = p + e, e = rho * g / (norm(g) + 1e-12), the norm over all parameters together (Foret et al., 2021).

    adaptive: e = rho * p^2 * g / (norm(abs(p) * g) + 1e-12), invariant to rescaled weights (Kwon et al., 2021).
    """
    if adaptive:
        for p, g, target in zip(params, directions, out, strict=True):
            torch.mul(p, g, out=target)
        scale = rho / (global_norm(out) + 1e-12)
        torch._foreach_mul_(out, params)
        torch._foreach_mul_(out, scale)
        torch._foreach_add_(out, params)
        return
    length = global_norm(directions).add_(1e-12)
    if length.is_cuda:
        torch._foreach_copy_(out, directions)
        torch._foreach_mul_(out, rho / length)
        torch._foreach_add_(out, params)
    else:
        for p, g, target in zip(params, directions, out, strict=True):
            torch.addcdiv(p, g, length, value=rho, out=target)
