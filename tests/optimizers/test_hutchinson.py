"""The curvature estimate against the dense Hessian, and the steps on which it is made."""

import pytest
import torch
from optimizer_problems import Problem, small_net
from torch.nn.functional import cross_entropy

from lop.optimizers.curvature import hutchinson_diagonal
from lop.optimizers.multi_tensor import random_signs
from lop.utils.seeding import make_generator


def dense_hessian(problem: Problem) -> torch.Tensor:
    """(P, P) in float64, by torch.func on the flattened parameters."""
    params = dict(problem.net.named_parameters())
    sizes = [p.numel() for p in params.values()]

    def loss(flat):
        parts = [t.view(p.shape) for t, p in zip(flat.split(sizes), params.values(), strict=True)]
        return cross_entropy(torch.func.functional_call(problem.net, dict(zip(params, parts, strict=True)), problem.x), problem.y)  # fmt: skip  # noqa: E501

    return torch.autograd.functional.hessian(loss, torch.cat([p.detach().flatten() for p in params.values()]))


def test_mean_over_probes_is_the_dense_diagonal():
    problem = Problem("adahessian", dtype=torch.float64)
    hessian = dense_hessian(problem)
    off_diagonal = hessian - torch.diag(hessian.diagonal())
    assert off_diagonal.abs().max() > 0.02
    params, n = list(problem.net.parameters()), 4000
    grads = torch.autograd.grad(problem.loss(), params, create_graph=True)
    estimate = hutchinson_diagonal(params, grads, make_generator(0, "test"), n_samples=n)
    flat = torch.cat([d.flatten() for d in estimate])
    # the variance of z_i (Hz)_i is the sum of the squared off-diagonal entries of row i
    deviation = off_diagonal.square().sum(1).sqrt() / n**0.5
    z_scores = (flat - hessian.diagonal()) / deviation
    assert z_scores.abs().max() < 4.5
    assert 0.6 < z_scores.square().mean() < 1.5


def test_diagonal_hessian_needs_one_probe():
    p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    (g,) = torch.autograd.grad((p**4).sum(), [p], create_graph=True)
    (d,) = hutchinson_diagonal([p], [g], make_generator(0, "test"))
    torch.testing.assert_close(d, 12 * p.detach() ** 2)


@pytest.mark.parametrize("shapes", [[(3,)], [(70, 3), (), (129,)]])
def test_random_signs(shapes):
    like = [torch.zeros(s, dtype=torch.float64) for s in shapes]
    generator = make_generator(0, "test")
    draws = torch.stack([torch.cat([t.flatten() for t in random_signs(like, generator)]) for _ in range(2000)])
    assert [t.shape for t in random_signs(like, generator)] == [t.shape for t in like]
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    assert draws.mean(0).abs().max() < 5 / 2000**0.5
    covariance = draws.T @ draws / 2000
    assert (covariance - torch.eye(draws.shape[1], dtype=torch.float64)).abs().max() < 5.5 / 2000**0.5


def test_probes_do_not_depend_on_the_default_dtype():
    like = [torch.zeros(70, 3), torch.zeros(129)]
    expected = random_signs(like, make_generator(0, "test"))
    torch.set_default_dtype(torch.float64)
    try:
        found = random_signs(like, make_generator(0, "test"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_kept_memory_changes_no_draw():
    like = [torch.zeros(70, 3), torch.zeros(()), torch.zeros(129, dtype=torch.float64)]
    fresh, again, kept = make_generator(0, "test"), make_generator(0, "test"), {}
    for _ in range(3):
        for one, other in zip(random_signs(like, fresh), random_signs(like, again, kept), strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["adahessian", "sophiah", "sophiag", "sassha", "msassha"])
@pytest.mark.parametrize("lazy", [1, 4])
def test_refreshed_exactly_on_schedule(name, lazy, monkeypatch):
    """Curvature changes, and second-order graphs exist, on steps 1, k+1, 2k+1, ... and no other."""
    problem = Problem(name, lazy_hessian=lazy)
    double = []
    grad = torch.autograd.grad

    def spy(*args, create_graph=False, **kwargs):
        double.append(create_graph)
        return grad(*args, create_graph=create_graph, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    key = "diagonal_sq" if name == "adahessian" else "hessian"
    weight, last = problem.net[0].weight, None
    for step in range(1, 10):
        double.clear()
        problem.run(1)
        now = problem.optimizer.state[weight][key].clone()
        due = (step - 1) % lazy == 0
        assert (last is None or not torch.equal(now, last)) == due
        assert any(double) == (due and name != "sophiag")
        last = now


def test_sophiag_estimates_the_gauss_newton_diagonal():
    """E over labels of B g^2 (g of the mean loss) = diag of J^T (diag(q) - q q^T) J / B summed over the batch."""
    problem = Problem("sophiag", net=small_net(dtype=torch.float64), dtype=torch.float64, n_samples=4000, lr=0.0)
    problem.x, problem.y = problem.x[:4], problem.y[:4]
    params = list(problem.net.parameters())
    logits = problem.net(problem.x)
    expected = [torch.zeros_like(p) for p in params]
    for b in range(4):
        q = logits[b].softmax(0).detach()
        jacobian = [torch.autograd.grad(logits[b, c], params, retain_graph=True) for c in range(3)]
        for i in range(len(params)):
            rows = torch.stack([row[i] for row in jacobian])
            second = torch.einsum("c,c...->...", q, rows**2) - torch.einsum("c,c...->...", q, rows) ** 2
            expected[i] += second / 4
    problem.run(1)
    for p, e in zip(params, expected, strict=True):
        estimate = problem.optimizer.state[p]["hessian"] / (1 - 0.99)
        torch.testing.assert_close(estimate, e, rtol=0.25, atol=0.05 * e.max().item())


def test_spatial_averaging_of_convolutions():
    conv = torch.nn.Conv2d(2, 3, 3).double()
    generator = make_generator(3, "test")
    x = torch.randn(4, 2, 6, 6, generator=generator, dtype=torch.float64)
    for averaging in (True, False):
        problem = Problem("adahessian", net=conv, spatial_averaging=averaging, lr=0.0, seed=1)
        problem.optimizer.step(lambda: conv(x).tanh().square().mean())
        d_squared = problem.optimizer.state[conv.weight]["diagonal_sq"]
        constant = torch.equal(d_squared, d_squared[..., :1, :1].expand_as(d_squared))
        assert constant == averaging
        if averaging:
            averaged = d_squared.sqrt()[..., 0, 0]
        else:
            torch.testing.assert_close(d_squared.sqrt().mean((2, 3)), averaged)
