"""SDP and GOSC against the formulas, in double precision."""

import pytest
import torch
from torch.nn import functional as F

from lop.algos.gosc import GOSC
from lop.algos.sdp import SDP, flatten_spectrum


def singular_values(weight):
    return torch.linalg.svdvals(weight.detach().flatten(1).double())


@pytest.mark.parametrize("net", ["mlp", "convnet", "resnet18"])
def test_sdp_flattens_every_weight_but_the_heads(net, build):
    learner, task = build(SDP(gamma=0.3), net=net)
    before = {name: p.detach().clone() for name, p in learner.net.named_parameters()}
    learner.end_task(task)
    conditions = []
    for name, p in learner.net.named_parameters():
        if name.startswith("head") or p.dim() == 1:
            assert torch.equal(p, before[name])
            continue
        s = singular_values(before[name])
        conditions.append((s[0] / s[-1].clamp_min(1e-4)).item())
        expected = s.clamp_min(1e-4).mean() ** 0.3 * s.clamp_min(1e-4) ** 0.7
        torch.testing.assert_close(singular_values(p), expected, rtol=1e-5, atol=1e-6)
        u, _, vh = torch.linalg.svd(before[name].flatten(1).double(), full_matrices=False)
        torch.testing.assert_close(p.detach().flatten(1).double(), (u * expected) @ vh, rtol=1e-5, atol=1e-6)
    got = [value.item() for value in learner.interventions[0].last_condition_numbers]
    assert sorted(got) == pytest.approx(sorted(conditions), rel=1e-4)


def test_the_ends_of_gamma(build):
    weight = torch.randn(5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flatten_spectrum(weight, 0.0)[0], weight)
    s = singular_values(weight)
    torch.testing.assert_close(singular_values(flatten_spectrum(weight, 1.0)[0]), s.mean().expand(3))
    rank_one = torch.ones(4, 4)
    assert singular_values(flatten_spectrum(rank_one, 0.3)[0])[-1] > 1e-4


def test_moments_fade_and_the_interval_counts_steps(build):
    learner, task = build(SDP(interval=3, fade=0.25), optimizer="adam", lr=0.01)
    plain, _ = build(optimizer="adam", lr=0.01)
    for step, (x, y) in enumerate(task.batches()[:3], start=1):
        learner.learn(x, y)
        plain.learn(x, y)
        weights = [other.net.body[1].weight for other in (learner, plain)]
        assert torch.equal(*weights) == (step < 3)
        scale = 0.25 if step == 3 else 1.0
        for key in ("exp_avg", "exp_avg_sq"):
            faded, whole = (o.optimizer.state[w][key] for o, w in zip((learner, plain), weights, strict=True))
            torch.testing.assert_close(faded, scale * whole)


@pytest.mark.parametrize("net", ["mlp", "convnet"])
def test_gosc_against_the_formula(net, build):
    gosc = GOSC(gamma_min=0.1, gamma_max=0.6, rank=2, samples=20)
    learner, task = build(gosc, net=net)
    learner.start_task(task)
    before = {name: p.detach().clone() for name, p in learner.net.named_parameters()}
    x, y = task.reference(20)
    names = [name for name, p in learner.net.named_parameters() if p.dim() > 1 and not name.startswith("head")]
    parameters = dict(learner.net.named_parameters())
    loss = F.cross_entropy(learner.net(x), y)
    gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
    learner.end_task(task)
    for name, gradient in zip(names, gradients, strict=True):
        u, s, vh = torch.linalg.svd(before[name].flatten(1).double(), full_matrices=False)
        ug, _, vgh = torch.linalg.svd(gradient.flatten(1).double(), full_matrices=False)
        expected = torch.zeros_like(s)
        for i in range(len(s)):
            a = sum((ug[:, j] @ u[:, i]) ** 2 + (vgh[j] @ vh[i]) ** 2 for j in range(2)) / 2
            assert 0 <= a <= 1 + 1e-9
            gamma = 0.6 * (1 - a) + 0.1 * a
            expected[i] = s.mean() ** gamma * s[i] ** (1 - gamma)
        torch.testing.assert_close(
            parameters[name].detach().flatten(1).double(), (u * expected) @ vh, rtol=1e-4, atol=1e-5
        )


def test_gosc_measures_without_a_trace(build):
    learner, task = build(GOSC(gamma_min=0.0, gamma_max=0.0), net="resnet18")
    learner.start_task(task)
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    learner.end_task(task)
    for name, value in learner.net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)
    assert learner.net.training
    assert all(p.grad is None for p in learner.net.parameters())


def test_a_diverged_net_does_not_stop_the_run(build):
    learner, task = build(GOSC(), SDP())
    learner.start_task(task)
    with torch.no_grad():
        learner.net.head.weight.fill_(float("nan"))
        learner.net.body[1].weight[0, 0] = float("inf")
    learner.end_task(task)
    assert torch.isinf(learner.net.body[1].weight[0, 0])
