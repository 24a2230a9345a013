"""The gradient of the loss on the reference batch, evaluation mode."""

import torch
from torch import Tensor, nn

from lop.metrics.gram import gradient_gram
from lop.metrics.ntk import eigenvalues
from lop.metrics.numerics import all_finite, global_norm, nan_unless, precise
from lop.metrics.outputs import example_losses
from lop.metrics.ranks import effective_rank
from lop.metrics.registry import metric


def zero_share(gradients: list[Tensor]) -> Tensor:
    """The share of entries that are exactly zero; NaN where an entry is NaN or inf. -> ()."""
    zeros = torch.stack([precise((g == 0).sum()) for g in gradients]).sum()
    return nan_unless(all_finite(gradients), zeros / sum(g.numel() for g in gradients))


def gradient_cosines(net: nn.Module, x: Tensor, y: Tensor, loss: str, active: Tensor | None = None) -> Tensor:
    """Cosines between the loss gradients of single examples (Lyle 2023), (N, N); 0 where a gradient is zero."""
    gram = gradient_gram(net, (x, y), lambda outputs, targets: [example_losses(outputs, targets, loss, active)])
    norms = gram.diagonal().sqrt()
    scale = torch.where(norms == 0, torch.ones_like(norms), norms)
    return gram / scale[:, None] / scale


@metric("grad_norm", "gradient norm", (0, None), None, "Euclidean norm of the loss gradient on the reference batch")
def _grad_norm(probe):
    return global_norm(probe.gradients)


@metric(
    "zero_grad_share",
    "share of zero gradients",
    (0, 1),
    False,
    "share of parameters whose loss gradient on the reference batch is exactly zero",
)
def _zero_grad_share(probe):
    return zero_share(probe.gradients)


@metric(
    "grad_cov_rank",
    "gradient covariance rank",
    (0, None),
    True,
    "effective rank of the matrix of cosines between single examples' loss gradients (Lyle 2023)",
)
def _grad_cov_rank(probe):
    x, y = probe.few
    return effective_rank(eigenvalues(gradient_cosines(probe.net, x, y, probe.loss, probe.active)))
