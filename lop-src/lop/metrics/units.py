"""What single hidden units do: dormant, dead, and how large the features are.

A unit here is one feature (with CReLU each unit has two). Activations are (batch, units) or, for maps,
(batch, units, ...): positions count like examples. The scalars are over all units of all hidden layers.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lop.metrics.numerics import all_finite, nan_unless, precise
from lop.metrics.registry import metric


def _per_unit(features: Tensor) -> Tensor:
    """(batch, units, ...) -> (batch, units, positions)."""
    return features.reshape(*features.shape[:2], -1)


def active_share(features: Tensor) -> Tensor:
    """The share of examples and positions on which each unit is not zero. (batch, units, ...) -> (units,)."""
    features = _per_unit(features)
    return torch.count_nonzero(features, dim=(0, 2)) / (features.shape[0] * features.shape[2])


def dormant_units(features: Tensor, threshold: float = 0.01) -> Tensor:
    """Units active on less than `threshold` of the batch (and positions) (Dohare 2024). -> bool (units,)."""
    return active_share(features) < threshold


def tau_dormant_units(features: Tensor, tau: float = 0.1) -> Tensor:
    """Units whose mean absolute activation is at most `tau` times the layer's mean (Sokar 2023). -> bool (units,).

    In a layer of zeros every unit is tau-dormant.
    """
    size = _per_unit(features).abs().mean(dim=(0, 2))
    return size <= tau * size.mean()


def dead_units(features: Tensor) -> Tensor:
    """Units that are exactly zero on every example and position. -> bool (units,)."""
    return active_share(features) == 0


def linearised_units(features: Tensor) -> Tensor:
    """Units whose feature is positive on every example and position, or on none: what they compute is linear on this
    batch, for ReLU and its leaky relatives (Lewandowski 2024). -> bool (units,)."""
    active = (_per_unit(features) > 0).flatten(2)
    share = active.sum(dim=(0, 2))
    return (share == 0) | (share == active.shape[0] * active.shape[2])


def duplicate_units(features: Tensor, threshold: float = 0.95) -> Tensor:
    """Units whose feature correlates (Pearson, over examples and positions) above `threshold` with another of the
    layer. -> bool (units,). A constant unit correlates with none."""
    rows = precise(_per_unit(features)).transpose(0, 1).flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    constant = norms <= 1e-12 * torch.linalg.vector_norm(precise(features)).clamp(min=1e-300)
    rows = torch.where(constant, 0, rows / torch.where(constant, 1, norms))
    return ((rows @ rows.T).fill_diagonal_(0) > threshold).any(1)


def feature_norm(features: Tensor) -> Tensor:
    """The mean over examples of the Euclidean norm of a layer's features. (batch, ...) -> ()."""
    return precise(torch.linalg.vector_norm(features.flatten(1), dim=1)).mean()


def _proportions(features: list[Tensor], rule) -> tuple[Tensor, Tensor]:
    of_layers, sizes = [], []
    for layer in features:
        chosen = precise(rule(layer))
        of_layers.append(nan_unless(all_finite([layer]), chosen.sum()))
        sizes.append(chosen.numel())
    counts = torch.stack(of_layers)
    return counts.sum() / sum(sizes), counts / counts.new_tensor(sizes)


@metric(
    "dormant_proportion",
    "dormant units (Dohare)",
    (0, 1),
    False,
    "share of hidden units active on less than 1% of the reference batch (Dohare 2024)",
    per_layer=True,
)
def _dormant(probe, *, threshold: Annotated[float, Field(ge=0)] = 0.01):
    return _proportions(probe.features, lambda f: dormant_units(f, threshold))


@metric(
    "tau_dormant",
    "tau-dormant units (Sokar)",
    (0, 1),
    False,
    "share of hidden units with mean |activation| at most tau times their layer's mean (Sokar 2023)",
    per_layer=True,
)
def _tau_dormant(probe, *, tau: Annotated[float, Field(ge=0)] = 0.1):
    return _proportions(probe.features, lambda f: tau_dormant_units(f, tau))


@metric(
    "dead",
    "dead units",
    (0, 1),
    False,
    "share of hidden units that are exactly zero on the whole reference batch",
    per_layer=True,
)
def _dead(probe):
    return _proportions(probe.features, dead_units)


@metric(
    "linearised_units",
    "linearised units",
    (0, 1),
    False,
    "share of hidden units that are positive on all of the reference batch, or on none of it (Lewandowski 2024)",
    per_layer=True,
)
def _linearised(probe):
    return _proportions(probe.features, linearised_units)


@metric(
    "duplicate_units",
    "duplicate units",
    (0, 1),
    False,
    "share of hidden units whose feature correlates above `threshold` with another one's of their layer",
    per_layer=True,
)
def _duplicates(probe, *, threshold: Annotated[float, Field(ge=-1, le=1)] = 0.95):
    return _proportions(probe.features, lambda f: duplicate_units(f, threshold))


@metric(
    "feature_norm",
    "feature norm",
    (0, None),
    None,
    "mean Euclidean norm of a layer's features; the scalar is the last hidden layer's",
    per_layer=True,
)
def _feature_norm(probe):
    layers = torch.stack([feature_norm(layer) for layer in probe.features])
    return layers[-1], layers
