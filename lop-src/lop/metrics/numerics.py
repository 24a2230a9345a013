"""Precision and finiteness, in one place."""

from collections.abc import Iterable

import torch
from torch import Tensor


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float64, or float32 on a device that has no float64."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all entries together. -> ()."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(precise(t)) for t in tensors]))


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether no tensor holds a NaN or inf, as a 0-d bool tensor on their device."""
    # The extremes are finite only if every entry is, and need no mask of the tensor's size.
    return torch.isfinite(torch.stack([extreme for t in tensors for extreme in torch.aminmax(t)])).all()


def nan_unless(condition: Tensor, value: Tensor) -> Tensor:
    """`value` where the 0-d `condition` holds, else NaN."""
    return torch.where(condition, value, torch.full_like(value, torch.nan))


LARGEST_CONDITION = 1e10


def numerical_rank(values: Tensor) -> Tensor:
    """How many of a matrix's eigenvalues or singular values are above 1e-10 times the largest; descending. -> ().

    NaN counts as not above.
    """
    return (values > values[0] / LARGEST_CONDITION).sum()


def capped_condition(values: Tensor) -> Tensor:
    """Largest / smallest of a matrix's eigenvalues or singular values, descending, at most 1e10. -> ().

    A matrix without full rank has 1e10, a matrix of zeros NaN. Does not depend on the matrix's scale.
    """
    shares = values / values[0]  # of tiny values too: their ratio is not lost
    return shares[-1].reciprocal().clamp(max=LARGEST_CONDITION)
