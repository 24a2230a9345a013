"""Curvature against the dense Hessian in float64."""

import pytest
import torch
from torch import nn

from lop.metrics.curvature import HessianProduct, hessian_effective_rank, hutchinson_trace, lanczos, sharpness
from lop.metrics.hessian_rank import share_above, spectral_weights
from lop.metrics.outputs import example_losses
from lop.utils.seeding import make_generator


@pytest.fixture
def problem(generator):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.randn(12, 4, generator=generator).double()
    y = torch.randint(0, 3, (12,), generator=generator)
    return net, x, y


def product_of(problem, parameters=None):
    net, x, y = problem
    return HessianProduct(example_losses(net(x), y, "cross_entropy").mean(), parameters or list(net.parameters()))


def dense_hessian(problem):
    net, x, y = problem
    names, shapes = zip(*((n, p.shape) for n, p in net.named_parameters()), strict=True)
    flat = torch.cat([p.detach().reshape(-1) for p in net.parameters()])

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        values = {n: v.view(shape) for n, v, shape in zip(names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(net, values, (x,)), y)

    return torch.autograd.functional.hessian(loss, flat)


def test_products_equal_the_dense_hessian(problem):
    torch.testing.assert_close(product_of(problem).dense(), dense_hessian(problem))


def test_lanczos_finds_both_ends(problem):
    values = torch.linalg.eigvalsh(dense_hessian(problem))
    found = lanczos(product_of(problem), 25, make_generator(0, "start"))
    torch.testing.assert_close(found[[0, -1]], values[[0, -1]], rtol=1e-6, atol=0)


def test_lanczos_stops_when_the_space_is_complete():
    p = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([3.0, 3.0, 1.0, 0.0, 0.0, -2.0], dtype=torch.float64)
    values = lanczos(HessianProduct(0.5 * (scale * p**2).sum(), [p]), 6, make_generator(0, "start"))
    torch.testing.assert_close(values, torch.tensor([-2.0, 0.0, 1.0, 3.0], dtype=torch.float64))


def test_trace_and_its_standard_error(problem):
    hessian = dense_hessian(problem)
    mean, error = hutchinson_trace(product_of(problem), 400, make_generator(0, "probes"))
    variance = 2 * (hessian.square().sum() - hessian.diagonal().square().sum())  # of one Rademacher probe
    assert error.item() == pytest.approx((variance / 400).sqrt().item(), rel=0.15)
    assert abs(mean.item() - hessian.trace().item()) < 4 * error.item()


def test_trace_of_a_diagonal_hessian_is_exact():
    p = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    loss = 0.5 * (torch.arange(5.0) * p**2).sum()
    mean, error = hutchinson_trace(HessianProduct(loss, [p]), 3, make_generator(0, "probes"))
    assert (mean.item(), error.item()) == pytest.approx((10, 0))


def test_effective_rank_of_one_layers_block(problem):
    net = problem[0]
    block = dense_hessian(problem)[-21:, -21:]  # the head: 18 weights, 3 biases
    s = torch.linalg.svdvals(block)
    shares = s / s.sum()
    expected = torch.exp(torch.special.entr(shares).sum()).item()
    product = product_of(problem, list(net[2].parameters()))
    assert hessian_effective_rank(product, make_generator(0, "start")).item() == pytest.approx(expected, rel=1e-6)


def test_effective_rank_of_a_large_block_from_lanczos():
    """2,000 parameters with four distinct eigenvalues: Lanczos finds each once."""
    p = torch.zeros(2000, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64).repeat(500)
    rank = hessian_effective_rank(HessianProduct(0.5 * (scale * p**2).sum(), [p]), make_generator(0, "start"))
    assert rank.item() == pytest.approx(2.6005, abs=1e-3)  # shares 4/7, 2/7, 1/7


def test_eps_rank_of_a_large_block_from_random_probes():
    """3,500 eigenvalues near 0 and 1,500 of 0.3 to 2 in magnitude: within four standard errors of the counted share."""
    near, far = torch.linspace(-1e-4, 1e-4, 3500, dtype=torch.float64), torch.linspace(0.3, 2, 1500).double()
    far[::3] *= -1
    eigenvalues = torch.cat([near, far])
    p = torch.zeros(5000, dtype=torch.float64, requires_grad=True)
    product = HessianProduct(0.5 * (eigenvalues * p**2).sum(), [p])
    values, weights = spectral_weights(product, 60, 2, make_generator(0, "start"))
    error = (2 * 0.3 * 0.7 / (2 * 5000)) ** 0.5  # of the share of a random direction's length
    assert weights.sum().item() == pytest.approx(1)
    assert share_above(values, weights, 0.1).item() == pytest.approx(0.3, abs=4 * error)


def test_eps_rank_of_few_distinct_eigenvalues_is_exact_but_for_the_probe():
    p = torch.zeros(2000, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([4.0, -2.0, 0.05, 0.0], dtype=torch.float64).repeat(500)
    product = HessianProduct(0.5 * (scale * p**2).sum(), [p])
    values, weights = spectral_weights(product, 20, 1, make_generator(0, "start"))
    drawn = torch.randn(2000, generator=make_generator(0, "start"), dtype=torch.float64).square()
    for eps in (0.01, 0.1, 3.0):
        expected = drawn[scale.abs() > eps].sum() / drawn.sum()
        assert share_above(values, weights, eps).item() == pytest.approx(expected.item(), rel=1e-9)


def test_a_linear_loss_has_no_curvature():
    p = torch.ones(3, requires_grad=True)
    assert HessianProduct((2 * p).sum(), [p]).dense().eq(0).all()


def test_sharpness_is_the_rise_up_the_gradient(problem):
    net, x, y = problem
    gap = sharpness(net, x, y, "cross_entropy", 0.1).item()
    loss = nn.functional.cross_entropy(net(x), y)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    with torch.no_grad():
        for p, g in zip(net.parameters(), gradients, strict=True):
            p += 0.1 * g / norm
        assert gap == pytest.approx((nn.functional.cross_entropy(net(x), y) - loss).item(), rel=1e-10)
    assert gap > 0
