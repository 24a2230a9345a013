"""Parseval, spectral and Wasserstein regularisation against dense float64 forms of their rules."""

import math

import numpy as np
import pytest
import torch

from lop.algos.parseval import Parseval
from lop.algos.spectral_reg import SpectralRegularisation
from lop.algos.wasserstein_init import WassersteinInit
from lop.nets.init import initialise_
from lop.utils.seeding import make_generator

NETS = ["mlp", "convnet", "resnet18", "actor_critic"]


def matrix(weight):
    return weight.detach().numpy().reshape(len(weight), -1)


def weights(net, heads):
    """Of every Linear and Conv2d, with or without the heads."""
    own = [net.value.head, net.policy.head] if hasattr(net, "policy") else [net.head]
    modules = [m for m in net.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    return [m.weight for m in modules if heads or all(m is not head for head in own)]


def numerical_gradient(function, p, places=12, step=1e-5):
    """Central differences of a scalar function at some entries of p; {place: slope}."""
    flat, found = p.data.view(-1), {}
    for i in np.linspace(0, flat.numel() - 1, min(places, flat.numel())).astype(int):
        kept = flat[i].item()
        values = []
        for sign in (1, -1):
            flat[i] = kept + sign * step
            values.append(function())
        flat[i] = kept
        found[int(i)] = (values[0] - values[1]) / (2 * step)
    return found


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("variant", ["chung", "fire"])
def test_parseval(net, variant, build):
    options = {"chung": {}, "fire": {"scale": 1.0, "width_factor": False, "head": True, "norms": True}}[variant]
    penalty = Parseval(weight=0.3, **options)
    learner, _ = build(penalty, net=net, double=True)
    with torch.no_grad():
        for p in learner.net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=make_generator(3), dtype=p.dtype))
    scale, expected = options.get("scale", 2.0), 0.0
    for weight in weights(learner.net, heads=variant == "fire"):
        w = matrix(weight)
        eigenvalues = np.linalg.svd(w, compute_uv=False) ** 2
        distance = ((eigenvalues - scale) ** 2).sum() + scale**2 * (len(w) - len(eigenvalues))
        expected += distance * ((64 / len(w)) ** 2 if variant == "chung" else 1.0)
    if variant == "fire":
        norms = [m.weight for m in learner.net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        expected += sum(((g.detach().numpy() ** 2 - scale) ** 2).sum() for g in norms)
    assert penalty.penalty().item() == pytest.approx(0.3 * expected, rel=1e-10)


def test_parseval_makes_rows_orthogonal_and_as_long_as_its_scale_says(build):
    penalty = Parseval(weight=0.02, width_factor=False)
    learner, _ = build(penalty, net_options={"hidden": [8, 7]}, double=True)
    layers = [layer.incoming.weight for layer in learner.hidden_layers]
    for _ in range(300):
        for p, g in zip(layers, torch.autograd.grad(penalty.penalty(), layers), strict=True):
            p.data -= g
    for p in layers:
        torch.testing.assert_close(p @ p.T, 2 * torch.eye(len(p), dtype=p.dtype), rtol=0, atol=1e-6)


def exact_vectors(penalty):
    """Where power iteration leads to."""
    penalty._vectors = [
        torch.from_numpy(np.linalg.svd(matrix(w), full_matrices=False)[2][0].copy()) for w in penalty._weights
    ]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("exponent", "target"), [(2.0, 1.0), (1.0, 1.0), (3.0, 1.0), (2.0, 2.0)])
def test_spectral_value_is_that_of_the_svd(net, exponent, target, build):
    penalty = SpectralRegularisation(weight=0.3, exponent=exponent, target=target)
    learner, _ = build(penalty, net=net, double=True)
    with torch.no_grad():
        for name, p in learner.net.named_parameters():
            if name.endswith("bias") or p.dim() == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=make_generator(3), dtype=p.dtype))
    exact_vectors(penalty)
    expected = sum((np.linalg.norm(matrix(w), 2) ** exponent - target) ** 2 for w in weights(learner.net, heads=True))
    for module in learner.net.modules():
        if getattr(module, "bias", None) is not None:
            expected += np.linalg.norm(module.bias.detach().numpy()) ** (2 * exponent)
        if isinstance(module, torch.nn.BatchNorm2d):
            expected += np.linalg.norm(module.weight.detach().numpy() - 1) ** (2 * exponent)
    assert penalty.penalty().item() == pytest.approx(0.3 * expected, rel=1e-8)


def test_spectral_gradient_is_that_of_the_largest_singular_value(build):
    penalty = SpectralRegularisation(weight=0.3, exponent=1.0)
    learner, _ = build(penalty, double=True)
    exact_vectors(penalty)
    layers = weights(learner.net, heads=True)

    def dense():
        return 0.3 * sum((np.linalg.norm(matrix(w), 2) - 1) ** 2 for w in layers)

    for w, gradient in zip(layers, torch.autograd.grad(penalty.penalty(), layers), strict=True):
        for place, slope in numerical_gradient(dense, w).items():
            assert gradient.view(-1)[place].item() == pytest.approx(slope, abs=1e-7)


def test_power_iteration_goes_on_from_step_to_step(build):
    penalty = SpectralRegularisation(weight=1e-3)
    learner, task = build(penalty, double=True, lr=0.02)
    first = [v.clone() for v in penalty._vectors]
    for _ in range(30):
        for x, y in task.batches():
            learner.learn(x, y)
    assert not any(torch.equal(a, b) for a, b in zip(first, penalty._vectors, strict=True))
    for w, v in zip(penalty._weights, penalty._vectors, strict=True):
        assert v.norm().item() == pytest.approx(1.0)
        assert (w.flatten(1) @ v).norm().item() == pytest.approx(np.linalg.norm(matrix(w), 2), rel=1e-3)


def test_a_matrix_of_zeros_is_no_end_of_the_iteration(build):
    penalty = SpectralRegularisation(weight=0.1)
    learner, task = build(penalty, double=True)
    learner.net.head.weight.data.zero_()
    for x, y in task.batches():
        learner.learn(x, y)
    head = learner.net.head.weight
    assert torch.isfinite(head).all()
    found = (head @ penalty._vectors[-1]).norm().item()
    assert found == pytest.approx(np.linalg.norm(matrix(head), 2), rel=0.2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("net", ["mlp", "convnet"])
def test_wasserstein(net, reduction, build):
    penalty = WassersteinInit(weight=0.3, reduction=reduction)
    learner, _ = build(penalty, net=net, double=True)
    parameters = list(learner.net.parameters())
    initial = [np.sort(p.detach().numpy().ravel()) for p in parameters]
    assert penalty.penalty().item() == 0
    initialise_(learner.net, make_generator(7))
    with torch.no_grad():
        for p in parameters:
            p.add_(0.1 * torch.randn(p.shape, generator=make_generator(3), dtype=p.dtype))

    def dense():
        squares = [(np.sort(p.detach().numpy().ravel()) - p0) ** 2 for p, p0 in zip(parameters, initial, strict=True)]
        return 0.3 * sum(s.mean() if reduction == "mean" else 0.5 * s.sum() for s in squares)

    got = penalty.penalty()
    assert got.item() == pytest.approx(dense(), rel=1e-10)
    gradients = torch.autograd.grad(got, parameters, create_graph=True)
    for p, gradient in zip(parameters, gradients, strict=True):
        for place, slope in numerical_gradient(dense, p).items():
            assert gradient.view(-1)[place].item() == pytest.approx(slope, abs=1e-8)
        curvature = torch.autograd.grad(gradient.sum(), p, retain_graph=True)[0]
        expected = 0.3 if reduction == "sum" else 0.6 / p.numel()
        torch.testing.assert_close(curvature, torch.full_like(p, expected))


def test_wasserstein_does_not_see_where_a_weight_is(build):
    penalty = WassersteinInit()
    learner, _ = build(penalty, double=True)
    for p in learner.net.parameters():
        order = torch.randperm(p.numel(), generator=make_generator(1))
        p.data = p.data.view(-1)[order].view_as(p).clone()
    assert penalty.penalty().item() == 0


def test_a_penalty_of_a_linear_net_is_none(build):
    penalty = Parseval()
    build(penalty, net_options={"hidden": []})
    assert penalty.penalty() is None
    assert math.isfinite(Parseval(head=True).weight)
