"""Losses, accuracy and churn against textbook formulas; masks; evaluation over batches."""

import math

import pytest
import torch
from metrics_small import FixedTask, SmallLearner
from torch import nn

from lop.metrics import evaluate
from lop.metrics.outputs import churn, correct, example_losses


@pytest.fixture
def logits(generator):
    return torch.randn(7, 5, generator=generator, dtype=torch.float64)


def test_churn_is_the_mean_divergence_from_before_to_after(logits, generator):
    after = logits + torch.randn(7, 5, generator=generator, dtype=torch.float64)
    p, q = logits.softmax(1), after.softmax(1)
    expected = sum((p[i] * (p[i] / q[i]).log()).sum().item() for i in range(7)) / 7
    assert churn(logits, after, "cross_entropy").item() == pytest.approx(expected, rel=1e-12)
    assert churn(after, logits, "cross_entropy").item() != pytest.approx(expected, rel=1e-3)
    assert churn(logits, logits, "cross_entropy").item() == 0


def test_churn_of_a_regression_is_the_mean_squared_difference(logits):
    after = logits.clone()
    after[0, 0] += 3
    assert churn(logits, after, "mse").item() == pytest.approx(9 / 35)


def test_churn_ignores_outputs_that_are_not_active(logits):
    active = torch.tensor([3, 0])
    after = logits * 1.1
    expected = churn(logits[:, [3, 0]], after[:, [3, 0]], "cross_entropy")
    masked = after.clone()
    masked[:, [1, 2, 4]] = -math.inf
    assert churn(logits, masked, "cross_entropy", active).item() == pytest.approx(expected.item(), rel=1e-12)


def test_losses_and_predictions_over_active_outputs(logits):
    active, labels = torch.tensor([4, 1, 2]), torch.tensor([1, 2, 4, 4, 1, 2, 2])
    probabilities = logits[:, active].softmax(1)
    columns = [active.tolist().index(label) for label in labels.tolist()]
    expected = [-probabilities[i, c].log().item() for i, c in enumerate(columns)]
    assert example_losses(logits, labels, "cross_entropy", active).tolist() == pytest.approx(expected)
    guesses = [active[row.argmax()].item() for row in probabilities]
    assert correct(logits, labels, active).tolist() == [g == c for g, c in zip(guesses, labels.tolist(), strict=True)]


def test_loss_of_a_regression_is_the_mean_over_outputs():
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    assert example_losses(outputs, targets, "mse").tolist() == [2.5, 5.0]


@pytest.fixture
def task(generator):
    x, y = torch.randn(23, 6, generator=generator), torch.randint(0, 4, (23,), generator=generator)
    return FixedTask(x, y, test=(x[:3], y[:3]))


@pytest.mark.parametrize("limit", [None, 12])
def test_evaluate_equals_one_big_batch(task, limit):
    net = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
    n = limit or 23
    with torch.no_grad():
        outputs = net.eval()(task.x[:n])
    net.train()
    result = evaluate(SmallLearner(net), task, "train", limit)
    assert result["examples"] == n
    assert result["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, task.y[:n]).item(), rel=1e-6)
    assert result["accuracy"] == pytest.approx((outputs.argmax(1) == task.y[:n]).double().mean().item())
    assert net.training


def test_evaluate_without_the_split(task):
    result = evaluate(SmallLearner(nn.Linear(6, 4)), task, "validation")
    assert result["examples"] == 0
    assert math.isnan(result["loss"])
    assert math.isnan(result["accuracy"])


def test_evaluate_a_diverged_net_is_nan_not_a_guess(task):
    net = nn.Linear(6, 4)
    with torch.no_grad():
        net.weight[0, 0] = math.nan
    result = evaluate(SmallLearner(net), task, "train")
    assert math.isnan(result["loss"])
    assert math.isnan(result["accuracy"])


def test_evaluate_with_masked_logits_is_finite(task):
    net = nn.Linear(6, 6)
    learner = SmallLearner(net)
    learner.predict = lambda x: net(x).masked_fill(torch.arange(6) > 3, -math.inf)
    masked = FixedTask(task.x, task.y, active=torch.arange(4))
    result = evaluate(learner, masked, "train")
    expected = nn.functional.cross_entropy(net(task.x)[:, :4], task.y).item()
    assert result["loss"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= result["accuracy"] <= 1
