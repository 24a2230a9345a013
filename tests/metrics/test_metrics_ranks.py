"""Ranks against singular values in float64 and against matrices whose rank is known."""

import math

import pytest
import torch

from lop.metrics.ranks import approximate_rank, effective_rank, singular_values, stable_rank


def textbook(matrix):
    s = torch.linalg.svdvals(matrix.double())
    p = [v / s.sum().item() for v in s.tolist() if v > 0]
    effective = math.exp(-sum(v * math.log(v) for v in p))
    counts = []
    for values in (s, s**2):
        shares = (values.cumsum(0) / values.sum()).tolist()
        counts.append(next(k for k, share in enumerate(shares, 1) if share >= 0.99))
    return effective, *counts


def ours(matrix):
    s = singular_values(matrix)
    return effective_rank(s).item(), stable_rank(s).item(), approximate_rank(s).item()


def matrices():
    g = torch.Generator().manual_seed(0)
    wide, tall = torch.randn(20, 300, generator=g), torch.randn(300, 20, generator=g)
    yield "wide", wide
    yield "tall", tall
    yield "relu", torch.relu(wide)
    yield "tiny", wide * 1e-30
    yield "huge", tall * 1e30
    yield "one column", tall[:, :1]
    yield "rank 3", torch.randn(50, 3, generator=g).double() @ torch.randn(3, 200, generator=g).double()
    yield "rank 3 in float32", torch.randn(64, 3, generator=g) @ torch.randn(3, 200, generator=g)
    yield "rank 1", torch.ones(64, 32)
    yield "dead units", torch.relu(tall) * (torch.arange(20) < 4)
    decay = 9.0 ** -torch.arange(20).double()
    q1, q2 = torch.linalg.qr(tall.double())[0], torch.linalg.qr(torch.randn(20, 20, generator=g).double())[0]
    yield "decay over 18 decades", (q1 * decay) @ q2
    yield "decay over 5 decades", (q1 * decay ** (5 / 18)) @ q2


MATRICES = dict(matrices())


@pytest.mark.parametrize("matrix", list(MATRICES.values()), ids=list(MATRICES))
def test_ranks_equal_those_of_the_singular_values(matrix):
    assert ours(matrix) == pytest.approx(textbook(matrix), rel=1e-6)


@pytest.mark.parametrize("matrix", list(MATRICES.values()), ids=list(MATRICES))
def test_singular_values_are_descending_and_exact(matrix):
    expected = torch.linalg.svdvals(matrix.double())
    values = singular_values(matrix)
    assert values.dtype == torch.float64
    assert (values.diff() <= 0).all()
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-13 * expected[0].item())


def test_equal_singular_values_that_reach_99_percent_exactly():
    q = torch.linalg.qr(torch.randn(200, 200, generator=torch.Generator().manual_seed(1)).double())[0]
    assert ours(7 * q) == pytest.approx((200, 198, 198))


def test_stable_rank_is_not_the_ratio_of_norms():
    s = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    assert stable_rank(s) == 4
    assert (s.square().sum() / s[0] ** 2).item() == pytest.approx(4 / 3)


def test_approximate_rank_weighs_by_energy():
    s = torch.tensor([10.0, 0.9, 0.1], dtype=torch.float64)
    assert (approximate_rank(s), stable_rank(s)) == (1, 2)


def test_a_matrix_of_zeros_has_rank_zero():
    assert ours(torch.zeros(8, 5)) == (0, 0, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_gives_nan(bad):
    matrix = torch.ones(6, 4)
    matrix[2, 1] = bad
    assert all(math.isnan(value) for value in ours(matrix))


@pytest.mark.parametrize("parts", [[99, 1], [9.9, 0.09, 0.01], [0.33] * 3 + [0.01], [0.1] * 9 + [0.09, 0.01]])
def test_a_share_that_is_reached_exactly_counts_as_reached(parts):
    """Also where the sum of floats falls short of 99% by a rounding."""
    values = torch.tensor(parts, dtype=torch.float64)
    expected = {2: 1, 3: 1, 4: 3, 11: 10}[len(parts)]
    assert stable_rank(values) == expected
    assert approximate_rank(values.sqrt()) == expected
