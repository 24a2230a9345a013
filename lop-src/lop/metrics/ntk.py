"""The empirical neural tangent kernel on a few reference inputs."""

import torch
from torch import Tensor, nn

from lop.metrics.gram import gradient_gram
from lop.metrics.numerics import LARGEST_CONDITION, capped_condition, numerical_rank, precise
from lop.metrics.outputs import select_outputs
from lop.metrics.ranks import effective_rank
from lop.metrics.reasons import Limited, Reason, UndefinedMetricError
from lop.metrics.registry import metric


def ntk(net: nn.Module, x: Tensor, kind: str = "pseudo", active: Tensor | None = None) -> Tensor:
    """The N x N kernel of `net` (in evaluation mode) on the inputs x, float64.

    "pseudo": K_ij = <grad of the summed logits at x_i, the same at x_j>; "full": the sum over the outputs of
    the kernel of each (Jacot 2018; the pseudo-NTK of Mohamadi 2023 up to scale). Only active outputs count.
    """

    def scalars(outputs: Tensor) -> list[Tensor]:
        chosen = select_outputs(outputs, active)
        return [chosen.sum(1)] if kind == "pseudo" else list(chosen.unbind(1))

    return gradient_gram(net, (x,), scalars)


def eigenvalues(kernel: Tensor) -> Tensor:
    """Eigenvalues of a symmetric positive semidefinite matrix, descending, not below 0, on the CPU.

    All NaN if an entry is NaN or inf. (N, N) -> (N,).
    """
    kernel = kernel.cpu()
    if not torch.isfinite(kernel).all():
        return torch.full((len(kernel),), torch.nan, dtype=kernel.dtype)
    return torch.linalg.eigvalsh(kernel).flip(0).clamp(min=0)


@metric(
    "ntk_eff_rank",
    "NTK effective rank",
    (0, None),
    True,
    "effective rank (Roy & Vetterli 2007) of the square roots of the eigenvalues of the empirical NTK",
)
def _ntk_eff_rank(probe):
    return effective_rank(probe.ntk_eigenvalues.sqrt())


@metric(
    "ntk_cond",
    "NTK condition number",
    (1, LARGEST_CONDITION),
    False,
    "largest / smallest eigenvalue of the empirical NTK, at most 1e10, which also a kernel without full rank has",
)
def _ntk_cond(probe):
    """Does not depend on the kernel's scale: an absolute floor for the eigenvalues would leave out all that a dying
    kernel has but the first, and call the kernel perfectly conditioned.
    """
    values = probe.ntk_eigenvalues
    condition, rank = capped_condition(values), int(numerical_rank(values))
    if rank == 0 and bool(torch.isfinite(values).all()):
        raise UndefinedMetricError(Reason.NO_GRADIENT)
    if rank < len(values):
        return Limited(condition, Reason.RANK_DEFICIENT, f"rank {rank} of {len(values)}")
    return condition


@metric(
    "ntk_rank",
    "NTK rank",
    (0, None),
    True,
    "eigenvalues of the empirical NTK that are above 1e-10 times the largest",
    integer=True,
)
def _ntk_rank(probe):
    values = probe.ntk_eigenvalues
    return torch.where(torch.isfinite(values).all(), precise(numerical_rank(values)), torch.nan)


@metric(
    "ntk_spectrum",
    "NTK eigenvalues",
    (0, None),
    None,
    "all eigenvalues of the empirical NTK on the reference inputs, descending",
    spectrum=True,
    companions=("ntk_rank",),
)
def _ntk_spectrum(probe):
    return probe.ntk_eigenvalues
