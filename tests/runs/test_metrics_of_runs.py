"""`Results.metrics_before` and `metrics_after` (the tables of finished runs as one dict per task)."""

import math

import pandas as pd
import pytest

from lop.plan import make_config
from lop.runner import run
from lop.runs import load


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    where = tmp_path_factory.mktemp("runs")
    small = {"benchmark.num_tasks": 2, "benchmark.epochs": 1, "net.hidden": [5, 4], "run.results_dir": str(where)}
    small |= {"metrics.reference_size": 16, "metrics.ntk_size": 8, "run.device": "cpu", "run.threads": 1}
    configs = [make_config(benchmark="permuted_digits", overrides={**small, "run.seed": seed}) for seed in (0, 1)]
    return [run(config, summaries=False).folder for config in configs]


def test_a_dict_per_task_with_each_phases_own_values(folders):
    results = load(folders[0])
    before, after = results.metrics_before, results.metrics_after
    table = pd.read_csv(folders[0] / "tasks.csv")
    layers = pd.read_csv(folders[0] / "layers.csv")
    for phase, found in (("before", before), ("after", after)):
        assert [values["task"] for values in found] == [0, 1]
        for task, values in enumerate(found):
            for name in ("loss", "test_acc", "eff_rank", "ntk_eff_rank", "avg_weight_mag"):
                assert values[name] == table[f"{name}_{phase}"][task]
            here = layers[(layers["task"] == task) & (layers["phase"] == phase)].sort_values("layer")
            assert values["layers"]["eff_rank"] == here["eff_rank"].tolist()
            assert set(values["layers"]) == {"eff_rank", "stable_rank", "approx_rank", "dormant_proportion"}
            assert here["name"].tolist() == ["hidden0", "hidden1"]
    assert before[0]["loss"] != after[0]["loss"]
    assert "ntk_churn" not in before[0]
    assert math.isfinite(after[0]["ntk_churn"])


def test_one_run_of_several(folders):
    results = load(*folders)
    assert len(results.metrics_after) == 4
    second = results.metrics("after", run=folders[1].name)
    assert second == load(folders[1]).metrics_after
    assert second != load(folders[0]).metrics_after
