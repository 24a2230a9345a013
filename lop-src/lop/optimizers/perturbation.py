"""The sharpness-aware perturbation: parameters moved uphill by a fixed distance."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lop.optimizers.multi_tensor import global_norm


def ascent(
    params: Sequence[Tensor], directions: Sequence[Tensor], rho: float, *, adaptive: bool = False
) -> list[Tensor]:
    """New tensors p + e, e = rho * g / (norm(g) + 1e-12), the norm over all parameters together (Foret et al., 2021).

    adaptive: e = rho * p^2 * g / (norm(abs(p) * g) + 1e-12), invariant to rescaled weights (Kwon et al., 2021).
    """
    if not adaptive:
        moved = list(torch._foreach_mul(directions, rho / (global_norm(directions) + 1e-12)))
    else:
        scaled = torch._foreach_mul(params, directions)
        scale = rho / (global_norm(scaled) + 1e-12)
        torch._foreach_mul_(scaled, params)
        torch._foreach_mul_(scaled, scale)
        moved = list(scaled)
    torch._foreach_add_(moved, params)
    return moved
