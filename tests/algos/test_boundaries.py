"""Shrink and perturb, resets at task boundaries, the schedule within a task, early stopping."""

import copy

import pytest
import torch
from torch.nn import functional as F

from lop.algos import INTERVENTIONS
from lop.algos.early_stopping import EarlyStopping
from lop.algos.ema import EMA
from lop.algos.resets import HeadReset, NetworkReset
from lop.algos.shrink_and_perturb import ShrinkAndPerturb
from lop.algos.step_schedule import StepSchedule
from lop.training.learner import Learner
from lop.utils.errors import UserError

WIDE = {"hidden": [300, 300], "layer_norm": True}


@pytest.mark.parametrize("every", ["step", "task"])
def test_shrink_and_perturb_with_fresh_parameters(every, build):
    method = ShrinkAndPerturb(form="init", shrink=0.25, scale=0.5, every=every)
    learner, task = build(method, lr=0.0, net_options=WIDE)
    before = {name: p.detach().clone() for name, p in learner.net.named_parameters()}
    learner.learn(*task.batches()[0])
    if every == "task":
        assert all(torch.equal(p, before[name]) for name, p in learner.net.named_parameters())
        learner.end_task(task)
    for name, p in learner.net.named_parameters():
        fresh = (p.detach() - 0.75 * before[name]) / 0.5
        if p.dim() == 2:
            torch.testing.assert_close(fresh.std(), before[name].std(), rtol=0.05, atol=0.0)
            assert abs(torch.corrcoef(torch.stack((fresh.flatten(), before[name].flatten())))[0, 1]) < 0.1
        elif "body" in name and name.endswith("weight"):
            torch.testing.assert_close(fresh, torch.ones_like(fresh))  # of a LayerNorm
        else:
            torch.testing.assert_close(fresh, torch.zeros_like(fresh))


def test_shrink_and_perturb_with_noise(build):
    method = ShrinkAndPerturb(form="noise", shrink=0.1, noise_std=0.02)
    learner, task = build(method, lr=0.0, net_options=WIDE)
    for x, y in task.batches()[:2]:
        before = [p.detach().clone() for p in learner.net.parameters()]
        learner.learn(x, y)
        noise = [p.detach() - 0.9 * q for p, q in zip(learner.net.parameters(), before, strict=True)]
        everything = torch.cat([n.flatten() for n in noise])
        torch.testing.assert_close(everything.std(), torch.tensor(0.02), rtol=0.02, atol=0.0)
        assert abs(everything.mean()) < 2e-4


@pytest.mark.parametrize("net", ["mlp", "convnet"])
@pytest.mark.parametrize("zero", [False, True])
def test_head_reset(zero, net, build):
    learner, task = build(HeadReset(zero=zero), net=net, optimizer="adam", lr=0.01)
    initial = copy.deepcopy(learner.net.state_dict())
    for x, y in task.batches():
        learner.learn(x, y)
    trained = copy.deepcopy(learner.net.state_dict())
    learner.end_task(task)
    for name, value in learner.net.state_dict().items():
        if not name.startswith("head"):
            assert torch.equal(value, trained[name])
    head = learner.net.output_layer()
    assert (head.bias == 0).all() or net == "convnet"  # the ConvNet draws its biases too
    if zero:
        assert (head.weight == 0).all()
        assert (head.bias == 0).all()
    else:
        assert not torch.equal(head.weight, trained["head.weight"])
        assert not torch.equal(head.weight, initial["head.weight"])
        torch.testing.assert_close(head.weight.std(), initial["head.weight"].std(), rtol=0.5, atol=0.0)
    for name, p in learner.net.named_parameters():
        assert (learner.optimizer.state[p]["exp_avg"] == 0).all() == name.startswith("head")


def test_network_reset_starts_everything_again(build, small_task):
    learner, task = build(NetworkReset(), net="resnet18", optimizer="adam", lr=0.01)
    initial = copy.deepcopy(learner.net.state_dict())
    for x, y in task.batches():
        learner.learn(x, y)
    learner.end_task(task)
    assert not learner.optimizer.state
    for name, value in learner.net.state_dict().items():
        if "running" in name or "norm" in name or name.endswith("bias"):
            assert torch.equal(value, initial[name]), name
        elif name.endswith("weight") and value.dim() > 1:
            assert not torch.equal(value, initial[name])
    first = copy.deepcopy(learner.net.state_dict())
    learner.end_task(task)
    assert not torch.equal(learner.net.state_dict()["head.weight"], first["head.weight"])


def test_step_schedule(build, small_task):
    learner, task = build(StepSchedule(milestones=[2, 3], factor=0.1), optimizer="adam", lr=0.5)
    group = learner.optimizer.param_groups[0]
    for _ in range(2):
        learner.start_task(task)
        rates = []
        for epoch in range(5):
            learner.start_epoch(task, epoch)
            rates.append(group["lr"])
            learner.end_epoch(task, epoch)
        assert rates == pytest.approx([0.5, 0.5, 0.05, 0.005, 0.005])
        learner.end_task(task)
        assert group["lr"] == 0.5


def test_step_schedule_goes_on_after_a_resume_in_mid_task(build):
    learner, task = build(StepSchedule(milestones=[1, 2], factor=0.1), lr=0.5)
    learner.start_task(task)
    learner.start_epoch(task, 1)
    resumed, _ = build(StepSchedule(milestones=[1, 2], factor=0.1), lr=0.5)
    resumed.load_state_dict(copy.deepcopy(learner.state_dict()))
    resumed.set_task(task)
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    resumed.start_epoch(task, 2)
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_early_stopping_reloads_the_best_epoch(metric, build, small_task):
    learner, _ = build(EarlyStopping(metric=metric), net="resnet18", lr=0.1)
    for index in range(2):
        task = small_task("resnet18", index=index, active=torch.tensor([0, 1, 2, 3]))
        learner.start_task(task)
        scores, states = [], []
        for epoch in range(6):
            for x, y in task.batches(epoch):
                learner.learn(x, y)
            learner.end_epoch(task, epoch)
            x, y = task.splits["validation"]
            outputs = learner.predict(x)
            scores.append(
                (outputs.argmax(1) == y).double().mean().item()
                if metric == "accuracy"
                else -F.cross_entropy(outputs, y).item()
            )
            states.append(copy.deepcopy(learner.net.state_dict()))
        best = scores.index(max(scores))
        learner.hand_in(task)
        assert all(torch.equal(value, states[best][name]) for name, value in learner.net.state_dict().items())
        learner.end_task(task)
    assert best != 5


def test_the_average_is_the_recursion_and_begins_at_the_weights_of_each_task(build, small_task):
    learner, _ = build(EMA(decay=0.9), lr=0.1)
    weight = learner.net.head.weight
    for k in range(2):
        task = small_task(index=k)
        learner.start_task(task)
        expected = weight.detach().clone()
        for batch in task.batches():
            learner.learn(*batch)
            expected = 0.9 * expected + 0.1 * weight.detach()
        torch.testing.assert_close(learner.evaluation_parameters()["head.weight"], expected)
        assert (expected - weight).abs().max() > 1e-3
        learner.end_task(task)


def test_early_stopping_keeps_what_it_scored(build, small_task):
    """With an average of the weights in use, that is the average, to train on with and to predict with."""
    learner, task = build(EarlyStopping(), EMA(decay=0.9), lr=0.5)
    learner.start_task(task)
    scores, outputs = [], []
    x, y = task.splits["validation"]
    for epoch in range(6):
        for batch in task.batches(epoch):
            learner.learn(*batch)
        learner.end_epoch(task, epoch)
        outputs.append(learner.predict(x))
        scores.append((outputs[-1].argmax(1) == y).double().mean().item())
    best = scores.index(max(scores))
    assert best != 5
    learner.hand_in(task)
    learner.net.eval()
    torch.testing.assert_close(learner.net(x), outputs[best])
    torch.testing.assert_close(learner.predict(x), outputs[best])


def test_early_stopping_says_when_there_is_nothing_to_validate_on(build, small_task):
    learner, task = build(EarlyStopping())
    del task.splits["validation"]
    learner.start_task(task)
    with pytest.raises(UserError, match="no validation split"):
        learner.end_epoch(task, 0)
    with pytest.raises(UserError, match=r"^metric must be loss"):
        Learner(learner.net, learner.optimizer, [EarlyStopping()], loss="mse")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("l2", {"weight": -1}),
        ("hybrid_init", {"l1_weight": -1}),
        ("huber_init", {"delta": 0}),
        ("ewc", {"samples": 0}),
        ("shrink_and_perturb", {"shrink": 2}),
        ("shrink_and_perturb", {"every": "epoch"}),
        ("redo", {"period": 0}),
        ("snr", {"eta": 0}),
        ("step_schedule", {"milestones": [5, 3]}),
        ("early_stopping", {"metric": "f1"}),
        ("sdp", {"gamma": 2}),
        ("gosc", {"gamma_min": 0.6}),
        ("ema", {"decay": 1}),
    ],
)
def test_a_bad_option_is_named_first(name, options):
    with pytest.raises(UserError, match=f"^{next(iter(options))} must be"):
        INTERVENTIONS[name](**options)
