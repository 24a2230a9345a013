"""Growing data: what was there stays, the test images are the same, from scratch is a fresh net on each chunk."""

import itertools

import pandas as pd
import pytest
import torch

from lop.experiment import make_stream
from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError
from lop.viz import generalisation
from lop.viz.generalisation import gap_to


def make(name, seed=0, **options):
    return make_stream(name, options, seed, None, "cpu")


def test_chunks_grow_by_equal_steps_and_keep_what_was_there():
    stream = make("growing", num_tasks=5)
    sizes = [stream.examples_of(k) for k in range(5)]
    assert sizes == [287, 575, 862, 1150, 1437]
    images = [stream.task(k).splits["train"][0] for k in range(5)]
    for smaller, larger in itertools.pairwise(images):
        assert torch.equal(larger[: len(smaller)], smaller)
    tests = [torch.cat([x for x, _ in stream.task(k).evaluation("test")]) for k in (0, 4)]
    assert torch.equal(*tests)
    first, other = (make("growing", seed=s).task(0).splits["train"][0] for s in (0, 1))
    assert not torch.equal(first, other)
    assert [stream.task(k).steps_per_epoch for k in (0, 4)] == [17, 89]


def test_warm_start_is_a_tenth_and_then_everything():
    stream = make("warm_start", examples=1000, epochs=3, first_epochs=7)
    assert [stream.examples_of(k) for k in (0, 1)] == [100, 1000]
    assert [stream.task(k).epochs for k in (0, 1)] == [7, 3]
    assert make("warm_start").num_tasks == 2


def test_from_scratch_does_not_depend_on_the_chunks_before(tmp_path):
    """A reset net in the second chunk is as good as one that never saw the first; a warm one has a history."""
    small = {"benchmark.num_tasks": 2, "benchmark.epochs": 4, "benchmark.examples": 320, "net.hidden": [16]}

    def train(algos, first_epochs):
        where = {"run.results_dir": str(tmp_path), "benchmark.first_epochs": first_epochs}
        config = make_config(benchmark="growing", optimizer="sgd", algos=algos, overrides=small | where)
        return run(config, summaries=False).tasks["train_acc_before"].iloc[1]

    assert abs(train(["network_reset"], 20) - 0.1) < 0.15  # chance: nothing is left of the first chunk
    assert train([], 20) > 0.6


def test_what_cannot_be_is_refused_in_one_line():
    for options, message in (
        ({"first_share": 1.5}, r"first_share must be in \[0, 1\]"),
        ({"first_share": 0.0}, "batch_size must be <= the 0 examples"),
        ({"examples": 5000}, r"examples must be 1\.\.1437"),
        ({"first_epochs": 0}, "first_epochs must be"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            make("growing", **options)


@pytest.fixture
def tasks():
    rows = []
    for label, accuracies in (("adam", (0.5, 0.6)), ("adam + network_reset", (0.5, 0.7)), ("sassha", (0.4, 0.75))):
        for seed in (0, 1):
            for task, accuracy in enumerate(accuracies):
                row = {"run": f"{label}-{seed}", "label": label, "seed": seed, "task": task}
                rows.append(row | {"test_acc_after": accuracy + 0.1 * seed})
    return pd.DataFrame(rows)


def test_the_gap_is_taken_seed_by_seed_in_points(tasks):
    gaps = gap_to(tasks, "adam + network_reset")
    mean = gaps.groupby(["label", "task"])["gap"].mean()
    assert mean["adam", 0] == pytest.approx(0)
    assert mean["adam", 1] == pytest.approx(-10)
    assert mean["sassha", 1] == pytest.approx(5)
    assert "adam + network_reset" not in set(gaps["label"])
    only_one = tasks[(tasks["label"] != "adam + network_reset") | (tasks["seed"] == 0)]
    assert gap_to(only_one, "adam + network_reset").groupby("seed")["gap"].count().to_dict() == {0: 4, 1: 0}


def test_the_figure_shows_accuracy_and_gap(tasks):
    figure = generalisation(tasks, reference="adam + network_reset")
    left, right = figure.axes
    assert {line.get_label() for line in left.get_lines()} >= {"adam", "adam + network_reset", "sassha"}
    adam = next(line for line in right.get_lines() if line.get_label() == "adam")
    assert list(adam.get_ydata()) == pytest.approx([0, -10])
    assert len(generalisation(tasks).axes) == 1
    with pytest.raises(UserError, match="no run is labelled 'fresh'"):
        generalisation(tasks, reference="fresh")
    with pytest.raises(UserError, match="no test accuracies"):
        generalisation(tasks.drop(columns="test_acc_after"))
