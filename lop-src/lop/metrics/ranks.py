"""How many dimensions a layer's features span: effective, stable and approximate rank.

All three are functions of the singular values of the (batch x units) matrix of a hidden layer's activations on
the reference batch; convolutional maps are averaged over space first. A matrix of zeros (a layer in which
nothing fires) has rank 0 by all three; a matrix with NaN or inf has rank NaN. The scalar on the dashboard is
that of the last hidden layer, the representation that the head reads.
"""

import torch
from torch import Tensor

from lop.metrics.numerics import precise
from lop.metrics.registry import metric

SMALLEST_EXACT = 1e-9  # ratio of Gram eigenvalues below which rounding would show in a rank
TIE = 1e-10  # a share that equals the threshold up to rounding has reached it


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values of a 2-d tensor, descending, float64; all NaN if an entry is NaN or inf.

    From the eigenvalues of the Gram matrix of the smaller side. Forming it squares the condition number, so a
    matrix that is (nearly) rank-deficient is decomposed directly.
    """
    size = min(matrix.shape)
    matrix = precise(matrix)
    scale = matrix.abs().amax() if matrix.numel() else matrix.new_zeros(())
    if not torch.isfinite(scale):
        return matrix.new_full((size,), torch.nan)
    if scale == 0:
        return matrix.new_zeros(size)
    scaled = matrix / scale
    gram = scaled @ scaled.T if matrix.shape[0] == size else scaled.T @ scaled
    eigenvalues = torch.linalg.eigvalsh(gram).flip(0)
    if eigenvalues[-1] < SMALLEST_EXACT * eigenvalues[0]:
        return torch.linalg.svdvals(scaled) * scale
    return eigenvalues.sqrt() * scale


def effective_rank(singular: Tensor) -> Tensor:
    """exp of the Shannon entropy of s / sum(s) (Roy & Vetterli 2007); 0 if all are 0. (n,) -> ()."""
    total = singular.sum()
    shares = singular / torch.where(total == 0, torch.ones_like(total), total)
    rank = torch.special.entr(shares).sum().exp()
    return torch.where(total == 0, torch.zeros_like(rank), rank)


def stable_rank(singular: Tensor, share: float = 0.99) -> Tensor:
    """The smallest k with (s_1 + ... + s_k) / sum(s) >= 0.99; `singular` descending. (n,) -> ().

    This is the field's "stable rank" (Dohare 2024; "srank" in Kumar 2021). It is NOT what linear algebra calls
    by that name, norm_F^2 / norm_2^2.
    """
    return _smallest_count(singular, share)


def approximate_rank(singular: Tensor, share: float = 0.99) -> Tensor:
    """The smallest k with (s_1^2 + ... + s_k^2) / sum(s^2) >= 0.99 (Yang 2019); `singular` descending. (n,) -> ()."""
    return _smallest_count((singular / singular[0].clamp(min=torch.finfo(singular.dtype).tiny)).square(), share)


def _smallest_count(values: Tensor, share: float) -> Tensor:
    total = values.sum()
    count = (values.cumsum(0) < (share - TIE) * total).sum() + 1
    count = torch.where(total == 0, torch.zeros_like(count), count)
    return torch.where(torch.isfinite(total), count.to(values.dtype), total * torch.nan)


def _last_and_all(probe, rank) -> tuple[Tensor, Tensor]:
    layers = torch.stack([rank(values) for values in probe.feature_singular_values])
    return layers[-1], layers


@metric(
    "eff_rank",
    "effective rank",
    (0, None),
    True,
    "exp of the entropy of the normalised singular values of the features (Roy & Vetterli 2007)",
    per_layer=True,
)
def _eff_rank(probe):
    return _last_and_all(probe, effective_rank)


@metric(
    "stable_rank",
    "stable rank",
    (0, None),
    True,
    "fewest singular values of the features whose sum is 99% of all (Dohare 2024; srank in Kumar 2021)",
    per_layer=True,
    integer=True,
)
def _stable_rank(probe):
    return _last_and_all(probe, stable_rank)


@metric(
    "approx_rank",
    "approximate rank",
    (0, None),
    True,
    "fewest singular values of the features whose squares sum to 99% of all (Yang 2019)",
    per_layer=True,
    integer=True,
)
def _approx_rank(probe):
    return _last_and_all(probe, approximate_rank)
