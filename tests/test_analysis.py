import pandas as pd
import pytest

from lop.analysis import _as_the_run, analyze, parse_tasks
from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    overrides = {
        "benchmark.num_tasks": 3,
        "benchmark.examples_per_task": 160,
        "net.hidden": [20, 20],
        "optimizer.lr": 0.05,
        "run.keep_weights": True,
        "run.device": "cpu",
        "run.results_dir": str(tmp_path_factory.mktemp("results")),
    }
    return run(make_config(benchmark="permuted_digits", algos=["sdp"], overrides=overrides), summaries=False).folder


def test_the_same_values_as_during_the_run(folder):
    analyze(folder)
    for name in ("tasks", "layers"):
        during, afterwards = pd.read_csv(folder / f"{name}.csv"), pd.read_csv(folder / f"analysis_{name}.csv")
        pd.testing.assert_frame_equal(during[afterwards.columns], afterwards, rtol=1e-12)
    assert "ntk_churn_after" in pd.read_csv(folder / "analysis_tasks.csv")


def test_extras_for_chosen_tasks(folder):
    table = analyze(folder, extras=["distance_from_init", "grad_norm"], tasks=[2, 1])
    assert table["task"].tolist() == [1, 2]
    assert (table["grad_norm_after"] > 0).all()
    distance = table[["distance_from_init_before", "distance_from_init_after"]].to_numpy().ravel()
    assert (distance > 0).all()
    first = analyze(folder, extras=["distance_from_init"], tasks=[0])
    assert first["distance_from_init_before"][0] == 0


def test_options_are_those_of_the_run():
    given = [{"name": "tau_dormant", "tau": 0.3}, "dead", {"name": "dormant_proportion", "threshold": 0.2}]
    assert _as_the_run((), given) == given
    assert _as_the_run(("grad_norm", "tau_dormant"), given) == [given[2], "grad_norm", given[0]]


def test_mistakes(folder, tmp_path):
    for wrong, words in (
        (lambda: analyze(tmp_path), "not a run folder"),
        (lambda: analyze(folder, tasks=[7]), "task 7 was not kept"),
        (lambda: analyze(folder, extras=["grad_nrm"]), "grad_norm"),
        (lambda: parse_tasks("1-"), "--tasks"),
    ):
        with pytest.raises(UserError, match=words):
            wrong()
    assert parse_tasks("0,5,10-12") == [0, 5, 10, 11, 12]
