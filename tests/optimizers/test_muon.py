"""Muon against its rule in float64 NumPy, where the Newton-Schulz steps are of singular values."""

import copy

import numpy as np
import pytest
import torch
from optimizer_problems import Problem, fill
from torch import nn

from lop.nets import NETS
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.optimizers.muon import orthogonalised
from lop.utils.seeding import make_generator


def by_singular_values(matrix: np.ndarray, steps: int) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    s = values / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return left * s @ right


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 6)])
def test_orthogonalised(shape):
    matrix = torch.randn(3, *shape, generator=make_generator(0), dtype=torch.float64)
    found = orthogonalised(matrix, 5)
    for one, expected in zip(found, matrix.numpy(), strict=True):
        np.testing.assert_allclose(one, by_singular_values(expected, 5), atol=1e-9)
    singular = torch.linalg.svdvals(orthogonalised(torch.randn(40, 90, generator=make_generator(1)), 5))
    assert 0.6 < singular.min() < singular.max() < 1.3


LR, DECAY, MOMENTUM, ADAM_LR, EPS = 0.03, 0.1, 0.9, 0.01, 1e-3


def expected_path(values, gradients_at, hidden, steps, nesterov, scale=1.0):
    """values: arrays by name. gradients_at(values) -> the same names. hidden: the names that Muon moves."""
    p = {name: value.copy() for name, value in values.items()}
    m = {name: np.zeros_like(value) for name, value in p.items()}
    v = copy.deepcopy(m)
    for t in range(1, steps + 1):
        gradients = gradients_at(p)
        for name, g in gradients.items():
            if name in hidden:
                m[name] = MOMENTUM * m[name] + (1 - MOMENTUM) * g
                d = (1 - MOMENTUM) * g + MOMENTUM * m[name] if nesterov else m[name]
                matrix = d.reshape(len(d), -1)
                size = np.sqrt(max(1, matrix.shape[0] / matrix.shape[1]))
                p[name] *= 1 - scale * LR * DECAY
                p[name] -= scale * LR * size * by_singular_values(matrix, 5).reshape(g.shape)
            else:
                m[name] = 0.8 * m[name] + 0.2 * g
                v[name] = 0.95 * v[name] + 0.05 * g * g
                p[name] *= 1 - scale * ADAM_LR * DECAY
                p[name] -= scale * ADAM_LR * m[name] / (1 - 0.8**t) / (np.sqrt(v[name] / (1 - 0.95**t)) + EPS)
    return p


CASES = [
    ("mlp", (6,), {"hidden": [9, 4]}, "muon", {"body.1.weight", "body.3.weight"}),
    ("mlp", (6,), {"hidden": [9, 4]}, "adam", {"body.3.weight"}),
    ("convnet", (1, 8, 8), {"channels": [3, 4], "kernel_sizes": [3, 2], "hidden": [5]}, "muon", {0, 1, 2}),
    ("actor_critic", (6,), {"hidden": [5, 4]}, "adam", {"policy.body.3.weight", "value.body.3.weight"}),
]


@pytest.mark.parametrize(("name", "shape", "options", "first_layer", "hidden"), CASES)
@pytest.mark.parametrize("nesterov", [True, False])
def test_the_rule(name, shape, options, first_layer, hidden, nesterov):
    net = NETS[name](shape, 3, **options).double()
    initialise_(net, make_generator(0))
    if name == "convnet":
        hidden = {n for n, p in net.named_parameters() if p.dim() > 1 and "head" not in n}
    x = torch.randn(7, *shape, generator=make_generator(1), dtype=torch.float64)
    twin = copy.deepcopy(net)

    def gradients_at(values):
        for key, p in twin.named_parameters():
            p.data.copy_(torch.from_numpy(values[key]))
        named = dict(twin.named_parameters())
        grads = torch.autograd.grad(twin(x).square().mean(), list(named.values()), allow_unused=True)
        return {key: g.numpy() for key, g in zip(named, grads, strict=True) if g is not None}

    start = {key: p.detach().numpy().copy() for key, p in net.named_parameters()}
    common = {"weight_decay": DECAY, "momentum": MOMENTUM, "adam_lr": ADAM_LR, "eps": EPS, "betas": [0.8, 0.95]}
    optimizer = get_optimizer("muon", net, lr=LR, first_layer=first_layer, nesterov=nesterov, **common)
    for _ in range(5):
        optimizer.step(lambda: net(x).square().mean())
    for key, value in expected_path(start, gradients_at, hidden, 5, nesterov).items():
        np.testing.assert_allclose(dict(net.named_parameters())[key].detach(), value, atol=1e-9)


def test_a_schedule_is_one_of_both_step_sizes():
    """Half the lr: half of Adam's as well."""
    moved = []
    for factor in (1.0, 0.5):
        problem = Problem("muon", dtype=torch.float64, lr=0.04)
        problem.optimizer.param_groups[0]["lr"] *= factor
        before = problem.values()
        problem.run(1)
        moved.append([b - a for a, b in zip(before, problem.values(), strict=True)])
    for whole, half in zip(*moved, strict=True):
        torch.testing.assert_close(half, whole / 2, rtol=1e-9, atol=0)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_reset_entry_of_what_adam_moves_is_a_new_one(decay):
    """As torch's AdamW, newly built, from the same gradients: one bias of a hidden layer."""
    problem = Problem("muon", dtype=torch.float64, weight_decay=decay)
    problem.run(30)
    bias = problem.net[0].bias
    problem.optimizer.reset_entries(bias, torch.arange(8) == 2)
    alone = nn.Parameter(bias[2].detach().clone())
    adam = torch.optim.AdamW([alone], lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=decay)
    for _ in range(6):
        alone.grad = problem.optimizer._differentiate(problem.loss).grads[1][2].clone()
        problem.run(1)
        adam.step()
        torch.testing.assert_close(bias[2], alone, rtol=1e-12, atol=0)


def test_without_a_net_all_matrices_are_hidden():
    net = fill(nn.Linear(4, 3))
    whole, part = get_optimizer("muon", net), get_optimizer("muon", list(copy.deepcopy(net).parameters()))
    for optimizer, expected in ((whole, {"exp_avg", "exp_avg_sq"}), (part, {"momentum"})):
        weight, bias = optimizer.param_groups[0]["params"]
        optimizer.step(lambda w=weight, b=bias: (w.sum() + b.sum()).square())
        assert set(optimizer.state[weight]) - {"step"} == expected
        assert set(optimizer.state[bias]) - {"step"} == {"exp_avg", "exp_avg_sq"}
