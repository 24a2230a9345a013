"""A learner by names for anybody's model, measured by a monitor; what torch cannot differentiate twice."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lop
from lop.algos.cbp import CBP
from lop.utils.errors import UserError


def net(activation=nn.ReLU):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 12), activation(), nn.Linear(12, 3))


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 6, generator=generator), torch.randint(3, (64,), generator=generator)


def test_it_is_the_learner_that_one_builds_by_hand(examples):
    x, y = examples
    by_name, by_hand = net(), net()
    often = {"name": "cbp", "replacement_rate": 0.1, "maturity_threshold": 2}
    made = lop.make_learner(by_name, x[:2], "sassha", [often, "swr"], lr=0.05)
    described = lop.describe(by_hand, x[:2])
    built = lop.Learner(
        described, lop.get_optimizer("sassha", described, lr=0.05), [CBP(replacement_rate=0.1, maturity_threshold=2)]
    )
    assert [type(i).__name__ for i in made.interventions] == ["CBP", "SWR"]
    made = lop.make_learner(by_name, x[:2], "sassha", [often], lr=0.05)
    for _ in range(10):
        assert torch.equal(made.learn(x, y).loss, built.learn(x, y).loss)
    assert built.interventions[0].replaced > 3
    for options, message in (
        (("sasha",), "did you mean 'sassha'"),
        (("sgd", ["cpb"]), "unknown intervention 'cpb': did you mean .*'cbp'"),
        (("sgd", [{"name": "cbp", "rate": 1}]), "rate is not an option of cbp"),
    ):
        with pytest.raises(UserError, match=message):
            lop.make_learner(net(), x[:2], *options)


def test_a_monitor_measures_a_learner_around_each_stretch(examples):
    x, y = examples
    learner = lop.make_learner(net(), x[:2], "sgd", ["ema"], lr=0.5)
    monitor = lop.Monitor(learner)
    seen = []
    for epoch in monitor.each(range(5, 8), x, y):
        seen.append((epoch, len(monitor.table)))
        for _ in range(3):
            learner.learn(x, y)
    assert seen == [(5, 0), (6, 1), (7, 2)]
    assert list(monitor.table["task"]) == [0, 1, 2]
    evaluated = learner.loss_of(learner.predict(x), y).item()  # of the averaged weights
    assert monitor.table["loss_after"].iloc[-1] == pytest.approx(evaluated, rel=1e-5)
    assert evaluated != pytest.approx(learner.loss_of(learner.net(x), y).item(), rel=1e-4)


def test_what_has_no_second_derivative_is_named(examples):
    x, y = examples
    learner = lop.make_learner(net(nn.Hardsigmoid), x[:2], "sassha", lr=0.1)
    message = (
        r"Sassha differentiates the loss twice, and torch has no second derivative of hardsigmoid \(model\.1\): put"
    )
    with pytest.raises(UserError, match=message) as caught:
        learner.learn(x, y)
    assert "\n" not in str(caught.value)
    lop.make_learner(net(nn.Hardsigmoid), x[:2], "adam", lr=0.1).learn(x, y)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.policy, self.value = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, x):
        h = torch.relu(self.body(x))
        return self.policy(h), self.value(h)


def smoothed(outputs, y):
    policy, value = outputs
    return F.cross_entropy(policy, y, label_smoothing=0.1) + value.square().mean()


def test_a_loss_of_ones_own_for_any_outputs():
    torch.manual_seed(0)
    model = TwoHeads().double()
    by_hand = copy.deepcopy(model)
    learner = lop.make_learner(model, torch.randn(2, 4).double(), "sgd", loss=smoothed, lr=0.1)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for _ in range(3):
        x, y = torch.randn(5, 4).double(), torch.randint(3, (5,))
        optimizer.zero_grad()
        loss = smoothed(by_hand(x), y)
        loss.backward()
        optimizer.step()
        assert learner.learn(x, y).loss.item() == pytest.approx(loss.item(), rel=1e-12)
    for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    with pytest.raises(UserError, match="own loss function has no value per example"):
        lop.Monitor(learner)
    with pytest.raises(UserError, match="unknown loss 'cross_entopy': did you mean 'cross_entropy'"):
        lop.make_learner(model, x, "sgd", loss="cross_entopy", lr=0.1)
