"""The empirical neural tangent kernel on a few reference inputs."""

import torch
from torch import Tensor, nn

from lop.metrics.gram import gradient_gram
from lop.metrics.outputs import select_outputs
from lop.metrics.ranks import effective_rank
from lop.metrics.registry import UndefinedMetricError, metric

SMALLEST_EIGENVALUE = 1e-12
LARGEST_CONDITION = 1e10


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


def condition_number(values: Tensor) -> Tensor:
    """Largest / smallest eigenvalue above 1e-12, at most 1e10; NaN if none is above. `values` descending. -> ()."""
    above = torch.where(values > SMALLEST_EIGENVALUE, values, torch.inf).amin()
    ratio = (values[0] / above).clamp(max=LARGEST_CONDITION)
    return torch.where(torch.isinf(above), torch.nan, ratio)


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
    "largest / smallest eigenvalue above 1e-12 of the empirical NTK, capped at 1e10",
)
def _ntk_cond(probe):
    if probe.ntk_eigenvalues[0] <= SMALLEST_EIGENVALUE:
        raise UndefinedMetricError("no eigenvalue of the NTK is above 1e-12")
    return condition_number(probe.ntk_eigenvalues)


@metric(
    "ntk_spectrum",
    "NTK eigenvalues",
    (0, None),
    None,
    "all eigenvalues of the empirical NTK on the reference inputs, descending",
    spectrum=True,
)
def _ntk_spectrum(probe):
    return probe.ntk_eigenvalues
