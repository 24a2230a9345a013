"""UPGD against its rule in float64 NumPy, with the same noise."""

import numpy as np
import pytest
import torch
from optimizer_problems import DIM, SIZES, STEPS, Probes, Problem, quadratic, same, trajectory

from lop.optimizers import get_optimizer

SHAPES = (2, 2), (3,)
VARIANTS = [
    {},
    {"protecting": False},
    {"local": True},
    {"local": True, "protecting": False, "second_order": True},
    {"second_order": True, "lazy_hessian": 3, "n_samples": 2},
    {"corrected_max": True, "step_factor": 2.0},
    {"adaptive": True},
    {"adaptive": True, "second_order": True, "corrected_max": True, "step_factor": 1.5},
]


def reference(
    *,
    protecting=True,
    local=False,
    second_order=False,
    corrected_max=False,
    adaptive=False,
    step_factor=None,
    lazy_hessian=1,
    n_samples=1,
    lr=0.03,
    decay=0.1,
    b=0.9,
    sigma=0.2,
    eps=1e-5,
):
    hessian, p = quadratic()
    probes, factor = Probes(n_samples), step_factor or (2 if adaptive else 1)
    u, m, v, h, path = np.zeros(DIM), np.zeros(DIM), np.zeros(DIM), np.zeros(DIM), []
    for t in range(1, STEPS + 1):
        g = hessian @ p
        if second_order and (t - 1) % lazy_hessian == 0:
            h = probes.diagonal(hessian)
        xi = torch.cat([torch.empty(n, dtype=torch.float64).normal_(generator=probes.generator) for n in SIZES]).numpy()
        u = b * u + (1 - b) * ((0.5 * h * p * p if second_order else 0) - g * p)
        fair = u / (1 - b**t)
        if local:
            rows = [fair[:2], fair[2:4], fair[4:]]
            scaled = np.concatenate([row / np.linalg.norm(row) for row in rows])
        else:
            scaled = fair / (fair if corrected_max else u).max()
        withheld = (1 + np.tanh(scaled / 2)) / 2
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        pull = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + eps) if adaptive else g
        step = (pull + sigma * xi) * (1 - withheld) if protecting else pull + sigma * xi * (1 - withheld)
        p = (1 - lr * decay) * p - lr * factor * step
        path.append(p)
    return np.array(path)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_the_rule(options):
    found = trajectory("upgd", SHAPES, lr=0.03, weight_decay=0.1, beta_utility=0.9, sigma=0.2, **options)
    np.testing.assert_allclose(found, reference(**options), rtol=1e-8)


def test_the_uncorrected_maximum_saturates_the_utility_at_first():
    """The quotient is then 1 / (1 - b^t) times larger: a useful weight hardly moves in the first steps."""

    def first_step(**options):
        problem = Problem("upgd", dtype=torch.float64, beta_utility=0.999, sigma=0.0, weight_decay=0.0, **options)
        before = problem.values()
        grads = problem.optimizer._differentiate(problem.loss).grads
        problem.run(1)
        rows = list(zip(before, problem.values(), grads, strict=True))
        share = torch.cat([((p - after) / (0.01 * g)).flatten() for p, after, g in rows])
        useful = torch.cat([(-g * p).flatten() for p, _, g in rows])
        return share[useful > 0.1 * useful.max()]

    assert first_step().max() < 1e-6
    assert first_step(corrected_max=True).min() > 0.25


@pytest.mark.parametrize("options", [{"adaptive": True}, {"local": True}, {"corrected_max": True}], ids=str)
def test_a_reset_weight_is_a_new_one(options):
    """Row by row with `local`, or where no other weight is more useful: after a reset of all, as newly built."""
    problem = Problem("upgd", dtype=torch.float64, **options)
    problem.run(6)
    for p in problem.net.parameters():
        problem.optimizer.reset_entries(p, torch.ones((), dtype=torch.bool))
    fresh = Problem("upgd", dtype=torch.float64, **options)
    with torch.no_grad():
        for p, q in zip(fresh.net.parameters(), problem.net.parameters(), strict=True):
            p.copy_(q)
    fresh.optimizer.generator.set_state(problem.optimizer.generator.get_state())
    assert problem.run(5) == fresh.run(5)
    assert same(problem.values(), fresh.values())


def test_nothing_learned_yet_is_no_division_by_zero():
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = get_optimizer("upgd", [p])
    optimizer.step(lambda: (p * 0).sum())
    assert p.isfinite().all()
    assert p.abs().max() > 0  # the noise
