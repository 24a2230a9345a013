"""What every listed diagnostic must do. A new one is tested by being listed."""

import copy
import math

import plugged
import pytest
import torch
from bitwise import same
from metrics_small import SmallLearner

from lop.metrics import METRICS, Dashboard
from lop.nets.convnet import ConvNet
from lop.nets.mlp import MLP
from lop.optimizers import get_optimizer

SHAPE = (3, 8, 8)
NETS = {
    "mlp": lambda: MLP(SHAPE, 4, hidden=[9, 8]),
    "convnet": lambda: ConvNet(SHAPE, 4, channels=[3, 4], kernel_sizes=[3, 2], hidden=[5]),
}
OPTIONS = {"trainability": {"steps": 2}} | plugged.options


@pytest.fixture
def learner(request, drawn):
    net = drawn(NETS[request.param](), torch.float32)
    learner = SmallLearner(net, optimizer=get_optimizer("adahessian", net))
    net.train()
    return learner


def dashboard(name, learner) -> Dashboard:
    return Dashboard(learner, reference_size=16, ntk_size=6, extras=[{"name": name, **OPTIONS.get(name, {})}])


def measured(name, learner, task) -> dict:
    board = dashboard(name, learner)
    before = board.before(task)
    for x, y in task.batches(0):  # for what is made of steps
        board.after_step(x, y, learner.loss_of(learner.net(x), y).detach())
    with torch.no_grad():
        for p in learner.net.parameters():
            p.mul_(1.01)
    return before if name in before and math.isfinite(before[name]) else board.after(task)


@pytest.mark.parametrize("learner", NETS, indirect=True)
@pytest.mark.parametrize("name", METRICS)
def test_a_value_is_of_the_kind_that_is_registered(name, learner, images):
    metric, result = METRICS[name], measured(name, learner, images)
    layers = learner.net.hidden_layers()
    if metric.spectrum:
        values = result["spectra"][name]
        assert len(values) > 1
        assert name not in result
    else:
        values = [result[name], *result["layers"].get(name, [])]
        assert len(values) == 1 + metric.per_layer * len(layers)
    low, high = metric.range
    for value in values:
        assert math.isfinite(value)
        assert low is None or value >= low
        assert high is None or value <= high
        assert not metric.integer or value == round(value)


@pytest.mark.parametrize("learner", NETS, indirect=True)
@pytest.mark.parametrize("name", METRICS)
def test_measuring_leaves_no_trace_and_gives_the_same_again(name, learner, images):
    def everything():
        generators = torch.get_rng_state(), learner.optimizer.generator.get_state()
        modes = [module.training for module in learner.net.modules()]
        gradients = [p.grad for p in learner.net.parameters()]
        return copy.deepcopy((learner.net.state_dict(), learner.optimizer.state_dict(), generators, modes, gradients))

    state, board = everything(), dashboard(name, learner)
    first = board.before(images), board.after(images)
    assert same(everything(), state)
    again = board.before(images), board.after(images)
    for one, other in zip(first, again, strict=True):
        for key in ("seconds", "evaluation_seconds"):
            del one[key], other[key]
        assert str(one) == str(other)  # a NaN is one, too
