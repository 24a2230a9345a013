"""TRAC against its rule in float64 NumPy, with SciPy's erfi."""

import copy

import numpy as np
import pytest
import torch
from optimizer_problems import STEPS, Problem, quadratic, same, trajectory
from scipy import special
from torch import nn

from lop.optimizers import get_optimizer, list_optimizers
from lop.optimizers.trac import erfi
from lop.utils.errors import UserError

DISCOUNTS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def test_erfi():
    x = np.concatenate([-np.logspace(-12, 0.9, 50), [0.0], np.logspace(-12, 0.9, 50)])
    np.testing.assert_allclose(erfi(torch.tensor(x)), special.erfi(x), rtol=1e-12)
    single = torch.linspace(-4, 4, 33)
    np.testing.assert_allclose(erfi(single), special.erfi(single.numpy()), rtol=1e-4)


def reference(base_step, gradient, start, scale, eps=1e-8, discounts=DISCOUNTS):
    """base_step(p, g): the base's step from p, whatever it keeps to itself."""
    b = np.array(discounts)
    p, v, sigma, s = start.copy(), 0 * b, 0 * b + 1e-8, 0 * b
    path = []
    for _ in range(STEPS):
        g = gradient(p)
        direction = (p - start) / (s.sum() + eps)
        h = direction @ g
        v, sigma = b**2 * v + h**2, b * sigma - h
        s = scale * special.erfi(sigma / (np.sqrt(2) * np.sqrt(v) + eps)) / special.erfi(1 / np.sqrt(2))
        p = start + max(0.0, s.sum()) * (direction + base_step(p, g))
        path.append(p)
    return np.array(path)


class Adam:
    def __init__(self, lr):
        self.lr, self.t, self.m, self.v = lr, 0, 0.0, 0.0

    def __call__(self, p, g):
        self.t, self.m, self.v = self.t + 1, 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g * g
        return -self.lr * self.m / (1 - 0.9**self.t) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


def sgd(p, g):
    return -0.05 * (g + 0.1 * p)


@pytest.mark.parametrize("scale", [1e-8, 1e-2])
def test_the_rule(scale):
    hessian, start = quadratic()
    expected = reference(Adam(0.05), lambda p: hessian @ p, start, scale)
    found = trajectory("trac", lr=0.05, scale=scale)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(expected[-1] - start).max() > (0.1 if scale > 1e-3 else 0)


def test_weight_decay_is_part_of_the_base_s_step():
    hessian, start = quadratic()
    found = trajectory("trac", lr=0.05, base="sgd", base_options={}, weight_decay=0.1, scale=0.05, discounts=[0.9, 0.5])
    expected = reference(sgd, lambda p: hessian @ p, start, 0.05, discounts=(0.9, 0.5))
    np.testing.assert_allclose(found[:30], expected[:30], rtol=1e-6)  # rounding grows with S


def test_a_clipped_gradient_is_the_one_it_looks_at():
    hessian, start = quadratic()

    def clipped(p):
        g = hessian @ p
        return g * min(1.0, 0.3 / (np.linalg.norm(g) + 1e-6))

    found = trajectory("trac", lr=0.05, scale=0.01, max_grad_norm=0.3)
    np.testing.assert_allclose(found, reference(Adam(0.05), clipped, start, 0.01), rtol=1e-6)


@pytest.mark.parametrize("base", sorted(set(list_optimizers()) - {"trac"}))
def test_every_base(base):
    """It learns, and its state is the base's own and comes back from a file."""
    options = {
        "base": base,
        "scale": 1.0,
        "discounts": [0.9],
        "base_options": {"max_iter": 2} if base == "lbfgs" else {},
    }
    problem = Problem("trac", lr=0.01, **options)
    problem.run(4)
    state = copy.deepcopy(problem.optimizer.state_dict())
    twin = Problem("trac", net=copy.deepcopy(problem.net), lr=0.01, **options)
    twin.optimizer.load_state_dict(state)
    assert twin.run(4) == problem.run(4)
    assert same(twin.values(), problem.values())
    assert all(torch.isfinite(p).all() for p in problem.net.parameters())


def test_not_around_itself():
    with pytest.raises(UserError, match="base must be another"):
        get_optimizer("trac", nn.Linear(2, 2), base="trac")


def test_a_reset_weight_starts_its_path_again():
    """The others' paths, and how far they are scaled, stay."""
    problem = Problem("trac", dtype=torch.float64, lr=0.05, scale=0.1)
    problem.run(5)
    weight, unit = problem.net[0].weight, (torch.arange(8) == 2).view(8, 1)
    state = problem.optimizer.state[weight]
    with torch.no_grad():
        weight[2] = 0.25
    before, sums = state["trac_reference"].clone(), state["trac_sums"].clone()
    problem.optimizer.reset_entries(weight, unit)
    assert torch.equal(state["trac_reference"][2], weight[2])
    kept = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(state["trac_reference"][kept], before[kept])
    assert not state["exp_avg"][2].any()
    problem.optimizer.fade(0.5)
    assert torch.equal(state["trac_reference"][kept], before[kept])
    assert torch.equal(state["trac_sums"], sums)
