"""What the parameters alone say. Per layer: the incoming weight of each hidden layer as a matrix (out, rest)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lop.metrics.numerics import LARGEST_CONDITION, capped_condition, global_norm, numerical_rank, precise
from lop.metrics.ranks import effective_rank
from lop.metrics.reasons import Limited, Reason
from lop.metrics.registry import metric


def mean_magnitude(parameters: Iterable[Tensor]) -> Tensor:
    """Mean absolute value of all entries of all parameters together. -> ()."""
    total: Tensor | float = 0.0
    count = 0
    for p in parameters:
        # Row by row: as fast as one float32 sum, without its rounding error.
        rows = torch.linalg.vector_norm(p.detach().reshape(p.shape[0] if p.dim() > 1 else 1, -1), 1, dim=1)
        total, count = total + precise(rows).sum(), count + p.numel()
    return torch.as_tensor(total / count)


def weight_condition(weight: Tensor) -> Tensor:
    """Largest / smallest singular value of a weight as a matrix (out, rest), float64. -> ().

    At most 1e10, which a matrix without full rank has; NaN for a matrix of zeros.
    """
    return capped_condition(_weight_singular_values(weight))


def weight_effective_rank(weight: Tensor) -> Tensor:
    """Effective rank of a weight as a matrix (out, rest) (Roy & Vetterli 2007). -> ()."""
    return effective_rank(_weight_singular_values(weight))


def isometry_gap(weight: Tensor) -> Tensor:
    """norm_F(W W^T / m - I), m the mean eigenvalue of W W^T, of a weight as a matrix (out, rest), float64. -> ().

    0 where the rows are orthogonal and of one length; at least sqrt(out - rest) where rows outnumber columns. NaN for
    a matrix of zeros. As in FIRE (2026).
    """
    rows = len(weight)
    eigenvalues = _weight_singular_values(weight).square()
    shares = eigenvalues * rows / eigenvalues.sum()
    return ((shares - 1).square().sum() + max(0, rows - len(shares))).sqrt()


def _weight_singular_values(weight: Tensor) -> Tensor:
    matrix = precise(weight.detach()).flatten(1)
    if not torch.isfinite(matrix).all():
        return matrix.new_full((min(matrix.shape),), torch.nan)
    return torch.linalg.svdvals(matrix)


def distance(parameters: Iterable[Tensor], initial: Iterable[Tensor]) -> Tensor:
    """The Euclidean distance of all parameters together from their initial values. -> ()."""
    return global_norm(p.detach() - p0.to(p.device) for p, p0 in zip(parameters, initial, strict=True))


@metric("avg_weight_mag", "mean |weight|", (0, None), None, "mean absolute value of all parameters")
def _avg_weight_mag(probe):
    return mean_magnitude(probe.net.parameters())


@metric(
    "weight_cond",
    "weight condition number",
    (1, LARGEST_CONDITION),
    False,
    "condition number of each hidden layer's incoming weight, at most 1e10; the scalar is the worst layer's",
    per_layer=True,
)
def _weight_cond(probe):
    singular = {layer.name: _weight_singular_values(layer.incoming.weight) for layer in probe.layers}
    layers = torch.stack([capped_condition(values) for values in singular.values()])
    ranks = {name: int(numerical_rank(values)) for name, values in singular.items()}
    short = [f"{name} has rank {rank} of {len(singular[name])}" for name, rank in ranks.items()]
    short = [text for text, name in zip(short, ranks, strict=True) if ranks[name] < len(singular[name])]
    value = layers.max(), layers
    return Limited(value, Reason.RANK_DEFICIENT, ", ".join(short)) if short else value


@metric(
    "weight_eff_rank",
    "weight effective rank",
    (0, None),
    True,
    "effective rank of each hidden layer's incoming weight (Roy & Vetterli 2007); the scalar is the layers' mean",
    per_layer=True,
)
def _weight_eff_rank(probe):
    layers = torch.stack([weight_effective_rank(layer.incoming.weight) for layer in probe.layers])
    return layers.mean(), layers


@metric(
    "isometry_gap",
    "isometry gap",
    (0, None),
    False,
    "distance of each hidden layer's incoming weight from orthogonal rows of one length; the scalar is the mean",
    per_layer=True,
)
def _isometry_gap(probe):
    layers = torch.stack([isometry_gap(layer.incoming.weight) for layer in probe.layers])
    return layers.mean(), layers


@metric(
    "distance_from_init",
    "distance from the initial weights",
    (0, None),
    None,
    "Euclidean distance of all parameters from their values when the dashboard was made",
    needs_initial=True,
)
def _distance_from_init(probe):
    return distance(probe.net.parameters(), probe.initial)
