"""The configs of L2 Init's comparison: complete, in one form, and each of them learns."""

from pathlib import Path

import pytest
import torch

import lop
from lop.experiment import build
from lop.plan import make_config

FOLDER = Path(lop.__file__).parent / "permuted_mnist" / "cfg" / "l2_init"
TEN = {
    "baseline",
    "layer_norm",
    "crelu",
    "l2",
    "l2_init",
    "l2_init_resample",
    "l1_init",
    "shrink_and_perturb",
    "cbp",
    "redo",
}


def test_the_ten_methods_are_there_for_both_optimizers():
    names = {path.stem for path in FOLDER.glob("*.json")}
    assert names >= TEN
    assert names >= {f"sgd_{name}" for name in TEN}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_each_is_in_the_papers_form_and_learns(path):
    config = make_config(path)
    options = config.benchmark.options
    assert (options["num_tasks"], options["examples_per_task"], options["batch_size"]) == (500, 10_000, 16)
    assert config.optimizer.name == ("sgd" if path.stem.startswith("sgd_") else "adam")
    small = {"benchmark.dataset": "digits", "benchmark.examples_per_task": 1200, "run.device": "cpu"}
    experiment = build(make_config(path, overrides=small))
    losses = []
    for k in range(2):
        task = experiment.stream.task(k)
        experiment.learner.start_task(task)
        losses.append([experiment.learner.learn(x, y).loss for x, y in task.batches(0)])
        experiment.learner.end_task(task)
    for task_losses in losses:
        assert torch.stack(task_losses[-5:]).mean() < torch.stack(task_losses[:5]).mean()
