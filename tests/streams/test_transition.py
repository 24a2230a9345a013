"""Gradual change: what the first steps of a task are made of, against the two tasks it lies between."""

import pytest
import torch

from lop.data.transition import Transition
from lop.experiment import make_stream
from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError

PERMUTED = {"num_tasks": 3, "batch_size": 10, "epochs": 2, "examples_per_task": 200}
RELABELLED = {"dataset": "digits", "num_tasks": 3, "num_examples": 200, "batch_size": 10, "epochs": 2}
RENAMED = {"num_tasks": 3, "batch_size": 10, "steps_per_task": 40}
STREAMS = {"permuted_digits": PERMUTED, "random_label_mnist": RELABELLED, "label_permuted": RENAMED}


def tasks(name, kind, share):
    """The same task with a transition and without, and the one before it with this one's order of examples."""
    streams = [make_stream(name, STREAMS[name] | extra, 3, None, "cpu") for extra in ({}, transition(kind, share))]
    abrupt, gradual = (stream.task(1) for stream in streams)
    before = streams[0].task(0)
    object.__setattr__(before, "index", 1)
    return before, abrupt, gradual


def transition(kind, share):
    return {"transition": {"kind": kind, "share": share}}


def steps(task):
    return [batch for epoch in range(task.epochs) for batch in task.batches(epoch)]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_inputs_are_interpolated(share):
    before, abrupt, gradual = (steps(task) for task in tasks("permuted_digits", "inputs", share))
    ramp = round(share * len(abrupt))
    for i, ((x0, y0), (x1, y1), (x, y)) in enumerate(zip(before, abrupt, gradual, strict=True)):
        weight = min(1.0, i / ramp)
        assert torch.allclose(x, (1 - weight) * x0 + weight * x1, atol=1e-6)
        assert torch.equal(y, y1)
        assert torch.equal(y, y0)


@pytest.mark.parametrize("name", ["random_label_mnist", "label_permuted"])
def test_labels_change_by_chance(name):
    before, abrupt, gradual = (steps(task) for task in tasks(name, "labels", 0.5))
    new = []
    for (x0, y0), (x1, y1), (x, y) in zip(before, abrupt, gradual, strict=True):
        assert torch.equal(x, x1)
        assert torch.equal(x, x0)
        assert ((y == y0) | (y == y1)).all()
        new.append((y == y1)[y0 != y1].float().mean().item())
    assert new[0] == 0.0
    assert new[len(new) // 2 :] == [1.0] * (len(new) - len(new) // 2)
    assert 0.35 < sum(new[: len(new) // 2]) / (len(new) // 2) < 0.65
    assert sum(new[:5]) < sum(new[len(new) // 2 - 5 : len(new) // 2])


@pytest.mark.parametrize("name", list(STREAMS))
def test_sampling_takes_whole_examples(name):
    before, abrupt, gradual = (steps(task) for task in tasks(name, "sampling", 0.5))
    share_of_new = []
    for (x0, y0), (x1, y1), (x, y) in zip(before, abrupt, gradual, strict=True):
        old = (x == x0).flatten(1).all(1) & (y == y0)
        new = (x == x1).flatten(1).all(1) & (y == y1)
        assert (old | new).all()
        share_of_new.append(new.float().mean().item())
    assert share_of_new[-1] == 1.0
    assert share_of_new[0] < 0.5 < share_of_new[len(share_of_new) // 2]


@pytest.mark.parametrize(("name", "kind"), [("permuted_digits", "inputs"), ("label_permuted", "labels")])
def test_a_task_in_transition_can_be_entered_at_any_batch_and_is_measured_pure(name, kind):
    _, abrupt, gradual = tasks(name, kind, 0.8)
    whole = list(gradual.batches(0))
    for start in (0, 1, len(whole) // 2, len(whole) - 1):
        for (x, y), (other, labels) in zip(gradual.batches(0, start), whole[start:], strict=True):
            assert torch.equal(x, other)
            assert torch.equal(y, labels)
    for split in ("train", "test"):
        pairs = zip(gradual.evaluation(split), abrupt.evaluation(split), strict=True)
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)
    assert torch.equal(gradual.reference(9)[0], abrupt.reference(9)[0])


def test_the_first_task_and_share_0_are_abrupt():
    for name, kind in (("permuted_digits", "inputs"), ("label_permuted", "sampling")):
        plain = make_stream(name, STREAMS[name], 0, None, "cpu")
        for k, share in ((0, 1.0), (1, 0.0)):
            other = make_stream(name, STREAMS[name] | transition(kind, share), 0, None, "cpu")
            pairs = zip(steps(plain.task(k)), steps(other.task(k)), strict=True)
            assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def test_a_config_says_it_and_a_kind_that_changes_nothing_is_refused(tmp_path):
    overrides = {"benchmark.num_tasks": 2, "benchmark.epochs": 1, "benchmark.examples_per_task": 64}
    overrides |= {"benchmark.transition": {"kind": "inputs", "share": 0.5}, "run.results_dir": str(tmp_path)}
    result = run(make_config(benchmark="permuted_digits", optimizer="sgd", overrides=overrides), summaries=False)
    assert result.status == "finished"
    with pytest.raises(UserError, match=r"^benchmark\.transition\.kind must be inputs or sampling.*got 'labels'"):
        run(
            make_config(
                benchmark="permuted_digits",
                optimizer="sgd",
                overrides=overrides | {"benchmark.transition": {"kind": "labels"}},
            )
        )


def test_a_share_that_is_no_whole_number_of_steps_is_rounded_up():
    """So that the shortest transition has a step."""
    assert [Transition("inputs", share).steps(11) for share in (0.01, 0.3, 0.5, 1.0)] == [1, 4, 6, 11]
