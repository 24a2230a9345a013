"""Penalties against autograd of the textbook formulas."""

import pytest
import torch
from torch.nn import functional as F

from lop.algos.ewc import EWC, L2InitEWC, fisher_diagonal
from lop.algos.penalties import L2, HuberInit, HybridInit, L1Init, L2Init
from lop.nets.init import initialise_
from lop.utils.seeding import make_generator

TEXTBOOK = {
    "l2": (L2(weight=0.3), lambda d, p: 0.3 * 0.5 * (p**2).sum()),
    "l2_init": (L2Init(weight=0.3), lambda d, p: 0.3 * 0.5 * (d**2).sum()),
    "l1_init": (L1Init(weight=0.3), lambda d, p: 0.3 * d.abs().sum()),
    "huber_init": (
        HuberInit(weight=0.3, delta=0.2),
        lambda d, p: 0.3 * torch.where(d.abs() <= 0.2, 0.5 * d**2, 0.2 * (d.abs() - 0.1)).sum(),
    ),
    "hybrid_init": (
        HybridInit(weight=0.3, l1_weight=0.07),
        lambda d, p: 0.3 * 0.5 * (d**2).sum() + 0.07 * d.abs().sum(),
    ),
}


@pytest.mark.parametrize("name", sorted(TEXTBOOK))
def test_value_gradient_and_curvature(name, build):
    intervention, textbook = TEXTBOOK[name]
    learner, _ = build(intervention)
    initial = [p.detach().clone() for p in learner.net.parameters()]
    initialise_(learner.net, make_generator(7))  # somewhere else
    parameters = list(learner.net.parameters())
    got = intervention.penalty()
    expected = sum(textbook(p - p0, p) for p, p0 in zip(parameters, initial, strict=True))
    torch.testing.assert_close(got, expected)
    gradients = torch.autograd.grad(got, parameters, create_graph=True)
    for g, h in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(g, h)
    if name in ("l2", "l2_init"):
        products = torch.autograd.grad([g.sum() for g in gradients], parameters)
        for product in products:
            torch.testing.assert_close(product, torch.full_like(product, 0.3))


def test_l2_init_pulls_to_the_initial_weights(build):
    learner, task = build(L2Init(weight=0.5), lr=0.1)
    plain, _ = build(lr=0.1)
    initial = [p.detach().clone() for p in plain.net.parameters()]
    for x, y in task.batches()[:2]:
        before = [p.detach().clone() for p in learner.net.parameters()]
        for p, q in zip(plain.net.parameters(), before, strict=True):
            p.data.copy_(q)
        plain.learn(x, y)
        learner.learn(x, y)
        for p, q, p_old, p0 in zip(learner.net.parameters(), plain.net.parameters(), before, initial, strict=True):
            torch.testing.assert_close(p, q - 0.1 * 0.5 * (p_old - p0))


def test_resampled_anchors_are_fresh_draws_of_the_initial_distribution(build):
    intervention = L2Init(resample=True)
    learner, task = build(intervention, net_options={"hidden": [200, 200], "layer_norm": True})
    anchors = [[a.clone() for a in intervention._initial.values()]]
    for x, y in task.batches()[:2]:
        learner.learn(x, y)
        anchors.append([a.clone() for a in intervention._initial.values()])
    names = [name for name, _ in learner.net.named_parameters()]
    for name, first, second, third in zip(names, *anchors, strict=True):
        if name.endswith("weight") and first.dim() == 2:
            assert not torch.equal(first, second)
            assert not torch.equal(second, third)
            torch.testing.assert_close(third.std(), first.std(), rtol=0.1, atol=0.0)
        else:
            assert torch.equal(first, third)


@pytest.mark.parametrize("net", ["mlp", "convnet", "resnet18"])
def test_fisher_is_the_mean_squared_gradient_per_example(net, build, monkeypatch):
    learner, task = build(net=net)
    learner.set_task(task)
    x, y = task.reference(7)
    monkeypatch.setattr("lop.algos.ewc.CHUNK", 3 * sum(p.numel() for p in learner.net.parameters()))
    buffers = {name: b.clone() for name, b in learner.net.named_buffers()}
    got = fisher_diagonal(learner, x, y)
    assert learner.net.training
    assert all(torch.equal(b, buffers[name]) for name, b in learner.net.named_buffers())
    learner.net.eval()
    total = {name: torch.zeros_like(p) for name, p in learner.net.named_parameters()}
    for i in range(7):
        loss = F.cross_entropy(learner.net(x[i : i + 1]), y[i : i + 1])
        gradients = torch.autograd.grad(loss, list(learner.net.parameters()))
        for value, g in zip(total.values(), gradients, strict=True):
            value += g**2 / 7
    for name, value in total.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("fisher", [True, False])
def test_ewc_anchors_at_the_last_tasks_weights(fisher, build, small_task):
    ewc = EWC(weight=2.0, fisher=fisher, samples=16)
    learner, _ = build(ewc, lr=0.1)
    assert ewc.penalty() is None
    for index in range(2):
        task = small_task(index=index)
        learner.start_task(task)
        for x, y in task.batches():
            learner.learn(x, y)
        importance = fisher_diagonal(learner, *task.reference(16))
        learner.end_task(task)
        anchor = {name: p.detach().clone() for name, p in learner.net.named_parameters()}
        assert ewc.penalty() == 0
    learner.learn(*task.batches()[0])
    expected = 0.0
    for name, p in learner.net.named_parameters():
        f = importance[name] if fisher else 1.0
        expected = expected + (f * (p - anchor[name]) ** 2).sum()
    torch.testing.assert_close(ewc.penalty(), 0.5 * 2.0 * expected)


def test_l2_init_ewc_is_the_sum_of_both(build, small_task):
    both, init, ewc = L2InitEWC(l2_weight=0.1, weight=2.0), L2Init(weight=0.1), EWC(weight=2.0)
    learner, _ = build(both, init, ewc)
    task = small_task()
    learner.start_task(task)
    torch.testing.assert_close(both.penalty(), init.penalty())
    learner.learn(*task.batches()[0])
    learner.end_task(task)
    learner.learn(*task.batches()[1])
    torch.testing.assert_close(both.penalty(), init.penalty() + ewc.penalty())
    assert ewc.penalty() > 0
