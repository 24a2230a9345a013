"""Controls at task boundaries: the optimizer's state, its step count, its step size; the slow net."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lop.algos import INTERVENTIONS
from lop.optimizers import list_optimizers
from lop.utils.errors import UserError


def steps(learner, task, count=6):
    for x, y in task.batches()[:count]:
        learner.learn(x, y)


@pytest.mark.parametrize("optimizer", ["adam", "kfac", "sassha"])
def test_optimizer_reset_is_a_new_optimizer_at_each_task(optimizer, build):
    learner, task = build(INTERVENTIONS["optimizer_reset"](), optimizer=optimizer, lr=0.01)
    learner.start_task(task)
    steps(learner, task)
    weights = learner.net.head.weight.clone()
    learner.end_task(task)
    assert torch.equal(learner.net.head.weight, weights)
    assert not learner.optimizer.state
    assert learner.optimizer.steps == 0


def test_adam_rel_is_adam_from_its_moments_with_a_step_count_of_its_own(build):
    """In NumPy, through three tasks of six steps, of one bias."""
    learner, task = build(INTERVENTIONS["adam_rel"](), optimizer="adam", lr=0.01, net="mlp")
    learner.net.double()
    bias = learner.net.head.bias
    value, m, v = bias.detach().numpy().copy(), 0.0, 0.0
    for _ in range(3):
        learner.start_task(task)
        for t, (x, y) in enumerate(task.batches()[:6], 1):
            x = x.double()
            (g,) = torch.autograd.grad(torch.nn.functional.cross_entropy(learner.net(x), y), [bias])
            learner.learn(x, y)
            m, v = 0.9 * m + 0.1 * g.numpy(), 0.999 * v + 0.001 * g.numpy() ** 2
            value -= 0.01 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            np.testing.assert_allclose(bias.detach(), value, rtol=1e-9)
        learner.end_task(task)


@pytest.mark.parametrize("optimizer", sorted(set(list_optimizers()) - {"lbfgs"}))
def test_a_restarted_clock_keeps_the_moments(optimizer, build):
    learner, task = build(optimizer=optimizer, lr=0.01)
    learner.start_task(task)
    steps(learner, task)
    learner.optimizer.reset_entries(learner.net.head.weight, torch.tensor([True, False, False, False]).view(4, 1))
    before = copy.deepcopy(learner.optimizer.state_dict()["state"])
    learner.optimizer.restart_clock()
    after = learner.optimizer.state_dict()["state"]
    for key, state in before.items():
        assert float(after[key].get("step", 0)) == 0
        kept = {n for n in state if n != "step" and "young" not in n and not n.endswith("_weight")}
        for name in kept:
            if torch.is_tensor(state[name]):
                assert torch.equal(after[key][name], state[name])
        assert not any("young" in name for name in after[key])
    steps(learner, task)
    assert all(torch.isfinite(p).all() for p in learner.net.parameters())


def rates(learner):
    return [group["lr"] for group in learner.optimizer.param_groups]


def test_warm_up_grows_to_the_step_size_in_every_task(build):
    learner, task = build(INTERVENTIONS["warm_up"](steps=4), optimizer="sgd", lr=0.2)
    for _ in range(2):
        learner.start_task(task)
        seen = []
        for x, y in task.batches()[:6]:
            seen += rates(learner)
            learner.learn(x, y)
        assert seen == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])
        learner.end_task(task)
        assert rates(learner) == [0.2]


@pytest.mark.parametrize("order", [("warm_up", "step_schedule"), ("step_schedule", "warm_up")])
def test_warm_up_of_a_scheduled_step_size(order, build):
    options = {"warm_up": {"steps": 8}, "step_schedule": {"milestones": [1], "factor": 0.5}}
    learner, task = build(*(INTERVENTIONS[name](**options[name]) for name in order), optimizer="sgd", lr=0.8)
    learner.start_task(task)
    for epoch in range(3):
        learner.start_epoch(task, epoch)
        steps(learner, task, 4)
    assert rates(learner) == pytest.approx([0.4])
    learner.end_task(task)
    assert rates(learner) == pytest.approx([0.8])


def test_warm_up_of_a_share_of_the_task(build):
    learner, task = build(INTERVENTIONS["warm_up"](share=0.3), optimizer="sgd", lr=0.2)
    learner.interventions[0].start_task(SimpleNamespace(epochs=2, steps_per_epoch=6))  # 3.6 steps: four
    steps(learner, task, 2)
    assert rates(learner) == pytest.approx([0.15])
    learner.data_ahead = False
    with pytest.raises(UserError, match="steps must be given"):
        INTERVENTIONS["warm_up"]().attach(learner)


@pytest.mark.parametrize("net", ["mlp", "resnet18"])
def test_the_hare_returns_to_the_tortoise(net, build):
    learner, task = build(INTERVENTIONS["hare_and_tortoise"](decay=0.8, every=2), net=net, lr=0.1)
    momentum = copy.deepcopy(learner.optimizer.state_dict())
    slow = {name: value.detach().clone() for name, value in learner.net.state_dict().items()}
    for epoch in range(3):
        for x, y in task.batches()[:2]:
            learner.learn(x, y)
            for name, value in learner.net.state_dict().items():
                if value.is_floating_point():
                    slow[name] = 0.8 * slow[name] + 0.2 * value
                else:
                    slow[name] = value.clone()
        for name, value in learner.evaluation_parameters().items():
            torch.testing.assert_close(value, slow[name], rtol=1e-5, atol=1e-7)
        learner.end_epoch(task, epoch)
        back = all(torch.equal(v, learner.evaluation_parameters()[n]) for n, v in learner.net.state_dict().items())
        assert back == (epoch != 1)  # after the first epoch and the third
    assert learner.optimizer.state_dict()["param_groups"] == momentum["param_groups"]
