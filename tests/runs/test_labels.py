"""Runs of different experiments have different labels; seeds of one experiment the same."""

import pytest

from lop.plan import make_config
from lop.runs import load
from lop.runs.labels import without


@pytest.fixture
def labels(tmp_path):
    """Labels of runs that differ as given, by their run names."""

    def write(**runs):
        for name, (optimizer, algos, overrides) in runs.items():
            given = {**overrides, "run.name": name, "run.results_dir": str(tmp_path)}
            config = make_config(benchmark="permuted_digits", optimizer=optimizer, algos=algos, overrides=given)
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").write_text(config.model_dump_json())
        runs = load(tmp_path).runs
        return dict(zip(runs["run"], runs["label"], strict=True))

    return write


def test_every_key_that_differs_is_in_the_label(labels):
    found = labels(
        a=("sgd", [], {"net.hidden": [10], "run.seed": 0}),
        b=("sgd", [], {"net.hidden": [10], "run.seed": 1, "run.time_limit_hours": 2}),
        c=("sgd", [], {"net.hidden": [20], "run.seed": 0}),
        d=("sgd", ["bp"], {"net.hidden": [20], "run.seed": 1}),
        e=("adam", [], {"net.hidden": [10], "optimizer.lr": 0.5}),
    )
    assert found["a"] == found["b"] == "sgd hidden=[10]"
    assert found["c"] == found["d"] == "sgd hidden=[20]"
    assert found["e"] == "adam"


@pytest.mark.parametrize(
    ("key", "values", "shown"),
    [
        ("benchmark.num_tasks", (5, 6), "num_tasks=5"),
        ("optimizer.lr", (0.25, 0.5), "lr=0.25"),
        ("algos.0.gamma", (0.5, 0.25), "gamma=0.5"),
        ("run.on_divergence", ("stop", "continue"), "on_divergence=stop"),
    ],
)
def test_whatever_part_it_is_of(key, values, shown, labels):
    found = labels(**{name: ("sgd", [{"name": "sdp"}], {key: value}) for name, value in zip("ab", values, strict=True)})
    assert found["a"] == f"sgd + sdp {shown}"
    assert found["b"] != found["a"]


def test_a_default_that_is_written_out_makes_no_difference(labels):
    assert set(
        labels(a=("sgd", [], {}), b=("sgd", [], {"optimizer.momentum": 0, "metrics.reference_size": 64})).values()
    ) == {"sgd"}


def test_labels_without_the_key_that_is_plotted_over(labels, tmp_path):
    labels(
        a=("sgd", [], {"optimizer.lr": 0.1, "net.hidden": [10]}),
        b=("sgd", [], {"optimizer.lr": 0.2, "net.hidden": [20]}),
    )
    runs = load(tmp_path).runs
    assert runs["label"].tolist() == ["sgd hidden=[10], lr=0.1", "sgd hidden=[20], lr=0.2"]
    assert without(runs, "optimizer.lr")["label"].tolist() == ["sgd hidden=[10]", "sgd hidden=[20]"]
    named = runs.assign(label="mine")  # what somebody has called them stays
    assert without(named, "optimizer.lr")["label"].tolist() == ["mine", "mine"]
