"""Every update rule against its formula in float64 NumPy, 50 steps on a quadratic whose Hessian is not diagonal."""

import copy

import numpy as np
import pytest
import torch
from optimizer_problems import DIM, SIZES, STEPS, Probes, fill, quadratic, trajectory
from torch import nn

from lop.optimizers import get_optimizer
from lop.utils.seeding import make_generator


@pytest.mark.parametrize(("lazy", "power", "samples"), [(1, 1.0, 1), (10, 1.0, 1), (3, 0.5, 2), (1, 0.7, 1)])
def test_adahessian(lazy, power, samples):
    lr, b1, b2, eps, decay = 0.05, 0.8, 0.95, 1e-2, 0.1
    options = {"lr": lr, "betas": [b1, b2], "eps": eps, "weight_decay": decay, "hessian_power": power}
    path = trajectory("adahessian", lazy_hessian=lazy, n_samples=samples, **options)
    hessian, p = quadratic()
    probes, m, v = Probes(samples), 0.0, 0.0
    for t in range(1, STEPS + 1):
        g = hessian @ p
        if (t - 1) % lazy == 0:
            d = np.abs(probes.diagonal(hessian))
        p = p * (1 - lr * decay)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * d**2
        p = p - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** (power / 2) + eps)
        np.testing.assert_allclose(path[t - 1], p, rtol=1e-9)


@pytest.mark.parametrize("lazy", [1, 10])
def test_sophiah(lazy):
    lr, b1, b2, eps, threshold, decay = 0.02, 0.9, 0.8, 1e-2, 0.5, 0.1
    options = {"lr": lr, "betas": [b1, b2], "eps": eps, "weight_decay": decay, "clip_threshold": threshold}
    path = trajectory("sophiah", lazy_hessian=lazy, **options)
    hessian, p = quadratic()
    probes, m, h = Probes(), 0.0, 0.0
    for t in range(1, STEPS + 1):
        g = hessian @ p
        if (t - 1) % lazy == 0:
            h = b2 * h + (1 - b2) * probes.diagonal(hessian)
        p = p * (1 - lr * decay)
        m = b1 * m + (1 - b1) * g
        p = p - lr * np.sign(m) * np.minimum(np.abs(m) / (threshold * np.maximum(h, 0) + eps), 1)
        np.testing.assert_allclose(path[t - 1], p, rtol=1e-9)


def cosine(first: float, last: float, step: int, steps: int) -> float:
    return last + (first - last) * (1 + np.cos(np.pi * min(step / steps, 1))) / 2


@pytest.mark.parametrize("momentum_perturbation", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("lazy", "scheduled"), [(1, False), (10, False), (4, True)])
def test_sassha_and_msassha(momentum_perturbation, adaptive, lazy, scheduled):
    lr, b1, b2, eps, rho, decay, power = 0.03, 0.8, 0.95, 1e-2, 0.3, 0.1, 0.5
    options = {"lr": lr, "betas": [b1, b2], "eps": eps, "weight_decay": decay, "rho": rho, "adaptive": adaptive}
    if scheduled:
        options |= {"rho_schedule": "cosine", "rho_end": 0.1, "schedule_steps": 30}
        options |= {"hessian_power_schedule": "linear", "hessian_power_end": 1.0}
    name = "msassha" if momentum_perturbation else "sassha"
    path = trajectory(name, lazy_hessian=lazy, hessian_power=power, **options)
    hessian, p = quadratic()
    probes, m, h = Probes(), np.zeros(DIM), 0.0
    for t in range(1, STEPS + 1):
        size = cosine(rho, 0.1, t - 1, 30) if scheduled else rho
        k = power + 0.5 * min((t - 1) / 30, 1) if scheduled else power
        direction = -m if momentum_perturbation else hessian @ p  # down the momentum, up the gradient
        if adaptive:
            e = size * p**2 * direction / (np.linalg.norm(np.abs(p) * direction) + 1e-12)
        else:
            e = size * direction / (np.linalg.norm(direction) + 1e-12)
        g = hessian @ (p + e)
        if (t - 1) % lazy == 0:
            h = b2 * h + (1 - b2) * np.abs(probes.diagonal(hessian))
            c = 1 - b2**t
        p = p * (1 - lr * decay)
        m = b1 * m + (1 - b1) * g
        p = p - lr / (1 - b1**t) * m / (h**k / c**k + eps)
        # rounding grows from step to step
        np.testing.assert_allclose(path[t - 1], p, rtol=1e-12 if t <= 10 else 1e-8)


def test_sam():
    lr, rho, momentum = 0.05, 0.2, 0.9
    path = trajectory("sam", lr=lr, rho=rho)
    hessian, p = quadratic()
    m = 0.0
    for t in range(STEPS):
        g = hessian @ p
        m = momentum * m + hessian @ (p + rho * g / (np.linalg.norm(g) + 1e-12))
        p = p - lr * m
        np.testing.assert_allclose(path[t], p, rtol=1e-9)


class WeightAndBias(nn.Module):
    """Two vectors whose names alone say what they are."""

    def __init__(self, parts):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(part.clone()) for part in parts)


def test_asam_scales_weights_and_leaves_biases():
    lr, rho, eta, momentum = 0.05, 0.2, 0.01, 0.9
    hessian, p = quadratic()
    matrix, net = torch.tensor(hessian), WeightAndBias(torch.tensor(p).split(SIZES))
    optimizer = get_optimizer("asam", net, lr=lr, rho=rho, eta=eta)

    def closure():
        values = torch.cat([net.weight, net.bias])
        return 0.5 * values @ matrix @ values

    m = 0.0
    for t in range(1, STEPS + 1):
        optimizer.step(closure)
        g = hessian @ p
        scale = np.concatenate([np.abs(p[: SIZES[0]]) + eta, np.ones(SIZES[1])])
        m = momentum * m + hessian @ (p + rho * scale**2 * g / np.linalg.norm(scale * g))
        p = p - lr * m
        found = torch.cat([net.weight, net.bias]).detach().numpy()
        # rounding grows from step to step
        np.testing.assert_allclose(found, p, rtol=1e-12 if t <= 10 else 1e-8, atol=1e-12)


def test_asam_perturbs_as_far_as_sam_with_its_authors_rho():
    """With abs(w) alone and rho 0.05 it was a seventh of SAM's length: almost plain SGD."""
    lengths = {}
    for name in ("sam", "asam"):
        net = fill(nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), scale=0.05)
        x, y = torch.rand(32, 64, generator=make_generator(0)), torch.arange(32) % 10
        before, seen = nn.utils.parameters_to_vector(net.parameters()).detach(), []

        def closure(net=net, x=x, y=y, seen=seen):
            seen.append(nn.utils.parameters_to_vector(net.parameters()).detach())
            return nn.functional.cross_entropy(net(x), y)

        get_optimizer(name, net).step(closure)
        lengths[name] = (seen[1] - before).norm().item()
    assert lengths["sam"] == pytest.approx(0.05, rel=1e-3)
    assert 0.5 < lengths["asam"] / lengths["sam"] < 10


def test_asam_without_a_net_takes_matrices_for_weights():
    net = fill(nn.Linear(4, 3).double())
    other = copy.deepcopy(net)
    x, y = torch.randn(8, 4, generator=make_generator(0), dtype=torch.float64), torch.arange(8) % 3
    for module, given in ((net, net), (other, other.parameters())):
        optimizer = get_optimizer("asam", given)
        for _ in range(3):
            optimizer.step(lambda module=module: nn.functional.cross_entropy(module(x), y))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_sam_around_adahessian_takes_the_curvature_at_the_perturbed_point():
    lr, rho = 0.05, 0.2
    path = trajectory("sam", lr=lr, rho=rho, base="adahessian", base_options={"lazy_hessian": 2, "eps": 1e-2})
    hessian, p = quadratic()
    probes, m, v = Probes(), 0.0, 0.0
    for t in range(1, STEPS + 1):
        g = hessian @ p
        g = hessian @ (p + rho * g / np.linalg.norm(g))
        if (t - 1) % 2 == 0:
            d = probes.diagonal(hessian)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * d**2
        p = p - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-2)
        np.testing.assert_allclose(path[t - 1], p, rtol=1e-8)


def test_clipping_by_the_norm_over_all_parameters():
    path = trajectory("sgd", lr=0.1, max_grad_norm=0.5)
    hessian, p = quadratic()
    for t in range(STEPS):
        g = hessian @ p
        p = p - 0.1 * g * min(1.0, 0.5 / (np.linalg.norm(g) + 1e-6))
        np.testing.assert_allclose(path[t], p, rtol=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "nadam", "rmsprop", "lbfgs"])
def test_adapted_optimizers_do_what_torch_does(name):
    path = trajectory(name, lr=0.02)
    hessian, start = quadratic()
    matrix = torch.tensor(hessian)
    params = [nn.Parameter(part.clone()) for part in torch.tensor(start).split(SIZES)]
    classes = {cls.lower(): getattr(torch.optim, cls) for cls in ("Adam", "AdamW", "SGD", "NAdam", "RMSprop", "LBFGS")}
    optimizer = classes[name](params, lr=0.02)

    def closure():
        optimizer.zero_grad()
        p = torch.cat(params)
        loss = 0.5 * p @ matrix @ p
        loss.backward()
        return loss

    for t in range(STEPS):
        optimizer.step(closure)
        expected = torch.cat([p.detach() for p in params]).numpy()
        np.testing.assert_allclose(path[t], expected, rtol=1e-9, atol=1e-12)


def matrix_power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**exponent) @ vectors.T


@pytest.mark.parametrize("largest", [16, 4])
def test_shampoo(largest):
    """A 4x5 matrix and a vector; with max_precond_dim 4 the 5 columns keep a diagonal."""
    random = np.random.default_rng(1)
    targets = {"w": random.normal(size=(4, 5)), "b": random.normal(size=3)}
    params = {k: nn.Parameter(torch.zeros(v.shape, dtype=torch.float64)) for k, v in targets.items()}
    lr, momentum, decay, eps, freq, wd = 0.1, 0.9, 0.8, 0.1, 3, 0.05
    optimizer = get_optimizer(
        "shampoo", params.values(), lr=lr, momentum=momentum, precond_decay=decay, epsilon=eps, update_freq=freq,
        weight_decay=wd, max_precond_dim=largest,
    )  # fmt: skip
    goal = {k: torch.tensor(v) for k, v in targets.items()}
    w, b = np.zeros((4, 5)), np.zeros(3)
    left, right, vector = np.zeros((4, 4)), np.zeros((5, 5)), np.zeros((3, 3))
    mw, mb = 0.0, 0.0
    for t in range(STEPS):
        optimizer.step(lambda: sum(((params[k] - goal[k]) ** 4).sum() for k in params))
        gw, gb = 4 * (w - targets["w"]) ** 3, 4 * (b - targets["b"]) ** 3
        left = decay * left + (1 - decay) * gw @ gw.T
        columns = gw.T @ gw
        right = decay * right + (1 - decay) * (columns if largest > 4 else np.diag(np.diag(columns)))
        vector = decay * vector + (1 - decay) * np.outer(gb, gb)
        if t % freq == 0:
            roots = [matrix_power(h + eps * np.eye(len(h)), -1 / 4) for h in (left, right)]
            root = matrix_power(vector + eps * np.eye(3), -1 / 2)
        mw, mb = momentum * mw + roots[0] @ gw @ roots[1], momentum * mb + root @ gb
        w, b = w * (1 - lr * wd) - lr * mw, b * (1 - lr * wd) - lr * mb
        np.testing.assert_allclose(params["w"].detach().numpy(), w, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(params["b"].detach().numpy(), b, rtol=1e-7, atol=1e-10)
