"""Online performance: what is written of bins and tasks, from losses and predictions that are known."""

import math

import pytest
import torch

from lop.training.learner import StepResult
from lop.training.online import OnlineRecorder

LOSSES = [0.5, 1.5, 4.0, 2.0]
LABELS = [[0, 1], [1], [0, 0, 1], [1, 0]]
GUESSES = [[0, 0], [1], [0, 1, 1], [0, 1]]  # of 2, 1, 3 and 2 examples 1, 1, 2 and 0 are right


def record(recorder, steps):
    for i in steps:
        logits = torch.nn.functional.one_hot(torch.tensor(GUESSES[i]), 2).float()
        recorder.record(StepResult(torch.tensor(LOSSES[i]), logits), torch.tensor(LABELS[i]))


def test_losses_are_means_over_steps_and_accuracies_over_examples():
    recorder = OnlineRecorder(classification=True)
    record(recorder, [0, 1, 2])
    assert recorder.pending == 3
    assert recorder.close_bin() == ({"examples": 6, "loss": 2.0, "accuracy": 4 / 6}, None)
    record(recorder, [3])
    assert recorder.close_bin() == ({"examples": 2, "loss": 2.0, "accuracy": 0.0}, None)
    assert recorder.close_task() == {"online_accuracy": 4 / 8, "online_loss": 8.0 / 4}
    record(recorder, [1])
    recorder.close_bin()
    assert recorder.close_task() == {"online_accuracy": 1.0, "online_loss": 1.5}  # of the new task alone


@pytest.mark.parametrize("classification", [True, False])
def test_a_bin_that_is_saved_in_its_middle_is_the_same(classification):
    whole, first, second = (OnlineRecorder(classification) for _ in range(3))
    record(whole, [0, 1, 2])
    record(first, [0, 1])
    second.load_state_dict(first.state_dict())
    record(second, [2])
    summary, bad = second.close_bin()
    assert (summary["loss"], summary["examples"], bad) == (2.0, 6, None)
    assert math.isnan(summary["accuracy"]) is not classification
    assert summary == pytest.approx(whole.close_bin()[0], rel=0, abs=0, nan_ok=True)


def test_the_first_batch_whose_loss_is_not_finite_is_named():
    recorder = OnlineRecorder(classification=False)
    for loss in (1.0, 2.0, math.inf, math.nan):
        recorder.record(StepResult(torch.tensor(loss), torch.zeros(1, 1)), torch.zeros(1, 1))
    assert recorder.close_bin()[1] == 2
