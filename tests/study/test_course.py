"""The course of a study: choosing, extending, evaluating, going on; no net is trained here."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml
from study_runs import TASKS, Written, lr_of

from lop.study import make_study, run_study, study_results
from lop.study.course import paper_differences
from lop.study.scores import _first_part
from lop.study.tuning import Tried, best, beyond, edges, extension


def quiet(line: str) -> None:
    """Nothing is printed."""


def peak_at(**peaks):
    """Accuracy by how far a step size is from the peak of its optimizer, a little better on later seeds."""

    def score(config):
        distance = abs(math.log10(lr_of(config) / peaks[config.optimizer.name]))
        return 0.9 - 0.1 * distance + 0.001 * (config.run.seed % 100)

    return score


def test_the_best_setting_is_evaluated_on_other_seeds(given):
    executor = Written(peak_at(sgd=0.1, adam=0.003))
    result, tables = run_study(make_study(given), executor, quiet)
    chosen = {case.case.method: case.chosen.setting["optimizer.lr"] for case in result.cases}
    assert chosen == {"sgd": 0.1, "adam": 0.003}
    assert len(executor.trained) == 2 * (3 * 2 + 5) == len(tables.runs)
    assert [len(job.names) for job in executor.jobs] == [6, 6, 5, 5]  # populations: of all step sizes and seeds
    purposes = tables.runs.groupby("purpose")["seed"].unique()
    assert set(purposes["tuning"]) == {100, 101}
    assert set(purposes["evaluation"]) == set(range(5))
    row = tables.comparison.set_index("method").loc["adam"]
    assert row["seeds"] == 5
    assert row["mean"] == pytest.approx(0.9 + 0.001 * 2)
    assert row["mean_low"] < row["mean"] < row["mean_high"]


def test_a_best_value_at_the_edge_extends_the_grid_by_its_factor(given):
    executor = Written(peak_at(sgd=3.0, adam=0.003))
    result, tables = run_study(make_study(given), executor, quiet)
    sgd = result.cases[0]
    assert [setting["optimizer.lr"] for setting in sgd.settings] == [0.03, 0.1, 0.3, 0.9, 2.7]
    assert sgd.extensions == 2
    assert sgd.edges == {"optimizer.lr": "high"}  # the budget is used up: flagged
    assert "sgd on digits: the best optimizer.lr, 2.7, is the largest tried, after 2 extensions" in tables.answer
    assert set(tables.runs["state"]) == {"finished"}  # none of what was best for a while and is not evaluated
    assert len(result.cases[1].settings) == 3


def test_the_budget_holds_for_extensions_too(given):
    given["tuning"] |= {"budget": 4, "extend": 9}
    result, _ = run_study(make_study(given), Written(peak_at(sgd=30.0, adam=3e-5)), quiet)
    assert [len(case.settings) for case in result.cases] == [4, 4]
    assert [case.edges["optimizer.lr"] for case in result.cases] == ["high", "low"]


def test_an_impossible_value_ends_an_extension(given):
    tune = {"algos.0.gamma": [0.3, 0.9]}
    given["methods"] = {"sdp": {"optimizer": "sgd", "algos": ["sdp"], "set": {"optimizer.lr": 0.1}, "tune": tune}}
    executor = Written(lambda config: config.algos[0].options["gamma"])
    (sdp,) = run_study(make_study(given), executor, quiet)[0].cases
    assert [setting["algos.0.gamma"] for setting in sdp.settings] == [0.3, 0.9]  # 2.7 is no exponent
    assert (sdp.extensions, sdp.edges) == (0, {"algos.0.gamma": "high"})


def test_ties_go_to_the_smaller_step():
    tried = [Tried({"a": lr}, {0: 0.5, 1: 0.7}, lr) for lr in (0.3, 0.03, 0.1)]
    assert best(tried, True).step == 0.03
    assert best([*tried, Tried({"a": 9}, {0: 0.65, 1: 0.65}, 9.0)], True).step == 9.0
    assert best([*tried, Tried({"a": 9}, {0: 0.1, 1: 0.1}, 9.0)], False).step == 9.0  # of a loss the lowest
    assert best([Tried({}, {0: 0.9, 1: math.nan}, 0.1)], True) is None  # a failed run: it cannot be chosen


def test_edges_are_of_numbers_with_neighbours():
    tried = [{"lr": lr, "kind": kind, "one": 3} for lr in (0.1, 0.2, 0.4) for kind in ("a", "b")]
    assert edges(tried, tried[0]) == {"lr": "low"}
    assert edges(tried, tried[2]) == {}
    assert beyond(tried, "lr", "low") == 0.05
    assert beyond(tried, "lr", "high") == 0.8
    assert beyond([{"k": 0}, {"k": 10}], "k", "high") is None  # a factor means nothing
    assert beyond([{"k": 2}, {"k": 8}], "k", "high") == 32
    assert extension(tried, tried[0], 1) == [{"lr": 0.05, "kind": "a", "one": 3}]
    assert extension(tried, tried[0], 0) == []


def test_the_same_command_again_trains_nothing(given):
    first, second = Written(peak_at(sgd=0.3, adam=0.003)), Written(peak_at(sgd=0.3, adam=0.003))
    _, tables = run_study(make_study(given), first, quiet)
    _, again = run_study(make_study(given), second, quiet)
    assert second.jobs == []
    pd.testing.assert_frame_equal(tables.comparison, again.comparison)
    assert study_results(make_study(given))[1].answer == tables.answer


def test_what_is_added_later_is_all_that_is_trained(given):
    run_study(make_study(given), Written(peak_at(sgd=0.1, adam=0.003)), quiet)
    given["evaluation"]["seeds"] = "0-5"
    executor = Written(peak_at(sgd=0.1, adam=0.003))
    run_study(make_study(given), executor, quiet)
    assert len(executor.trained) == 2
    assert all("-s5-" in name for name in executor.trained)
    given["methods"]["nadam"] = {"optimizer": "nadam", "tune": {"optimizer.lr": [0.001, 0.003, 0.01]}}
    executor = Written(peak_at(nadam=0.003))
    _, tables = run_study(make_study(given), executor, quiet)
    assert len(executor.trained) == 3 * 2 + 6
    assert set(tables.comparison["method"]) == {"sgd", "adam", "nadam"}


def test_a_diverged_run_counts_as_chance_from_there_on(given):
    given["tuning"]["extend"] = 0

    def score(config):
        if config.optimizer.name == "adam" and lr_of(config) == 0.01:
            return "diverged", [0.99] * 2  # best as long as it lasts
        if config.optimizer.name == "adam" and config.run.seed == 3:
            return [0.8] * 5 + [math.nan] * 5
        return 0.8

    result, tables = run_study(make_study(given), Written(score), quiet)
    adam = result.cases[1]
    lost = next(one for one in adam.tried if one.setting["optimizer.lr"] == 0.01)
    assert lost.value == pytest.approx((2 * 0.99 + 8 * 0.1) / 10)
    assert adam.chosen.step == 0.001  # equal to 0.003: the smaller step
    row = tables.comparison.set_index("method").loc["adam"]
    assert row["diverged"] == 1
    assert row["seeds"] == 5
    assert row["mean"] == pytest.approx((4 * 0.8 + 0.45) / 5)
    assert "1 of 5 runs diverged" in tables.answer


def test_failed_runs_are_listed_and_tried_again(given):
    given["tuning"]["extend"] = 0

    def fails(config):
        return "failed" if lr_of(config) == 0.3 or (config.optimizer.name == "adam" and config.run.seed == 2) else 0.8

    result, tables = run_study(make_study(given), Written(fails), quiet)
    assert len(result.failed) == 3
    assert not result.complete
    assert (tables.runs["state"] == "failed").sum() == 3
    assert "failed (tuning): sgd on digits, {'optimizer.lr': 0.3}, seed 100: why" in tables.answer
    assert "adam on digits: 4 of 5 seeds" in tables.answer
    assert result.cases[0].chosen.step == 0.03
    executor = Written(lambda config: 0.8)
    result, tables = run_study(make_study(given), executor, quiet)
    assert result.complete
    assert len([name for name in executor.trained if "adam" in name]) == 1


def test_an_interrupted_stage_waits_for_the_next_time(given):
    result, tables = run_study(make_study(given), Written(lambda config: "interrupted"), quiet)
    assert result.interrupted
    assert set(tables.runs["purpose"]) == {"tuning"}
    assert "the same command goes on" in tables.answer


def test_differences_are_paired_by_seed_and_corrected(given):
    given["methods"]["nadam"] = {"optimizer": "nadam"}

    def score(config):
        noise = [0.0, 0.2, 0.1, 0.3, 0.05][config.run.seed] if config.run.seed < 5 else 0.0
        gain = {"sgd": 0.0, "adam": 0.02, "nadam": -0.01 * (config.run.seed % 2)}[config.optimizer.name]
        return [0.5 + noise + gain] * 8 + [0.4 + noise] * 2

    _, tables = run_study(make_study(given), Written(score), quiet)
    found = tables.differences.set_index(["method", "measure"])
    adam = found.loc["adam", "mean"]
    assert adam["difference"] == pytest.approx(0.016)
    assert (adam["low"], adam["high"]) == pytest.approx((0.016, 0.016))  # what a seed adds falls out
    assert adam["p"] == pytest.approx(2 / 2**5)
    assert adam["p_holm"] == pytest.approx(2 * 2 / 2**5)
    assert found.loc["adam", "change"]["difference"] == pytest.approx(-0.02)
    assert "no p-value can be below 0.0625" in tables.answer


def test_equal_time_takes_the_part_of_a_task_that_fits(given):
    _, tables = run_study(make_study(given), Written(lambda config: 0.6), quiet)
    rows = tables.comparison.set_index("method")
    assert rows.loc["adam", "cost"] == 2.0
    assert rows.loc["sgd", "equal_time"] == pytest.approx(0.6)
    assert rows.loc["adam", "equal_time"] == pytest.approx(0.5)  # the first of two bins
    assert _first_part(np.array([0.5, 1.0]), np.array([0.2, 0.8]), 0.75) == pytest.approx(
        (0.5 * 0.2 + 0.25 * 0.8) / 0.75
    )


def test_one_seed_gives_no_verdict(given):
    given["evaluation"]["seeds"] = "0"
    _, tables = run_study(make_study(given), Written(peak_at(sgd=0.1, adam=0.003)), quiet)
    assert "One seed: no verdict" in tables.answer
    assert "paired difference" not in tables.answer
    assert "p <" not in tables.answer


def test_chosen_settings_are_whole_sections(given, tmp_path):
    given["methods"]["sgd"]["set"] = {"optimizer.momentum": 0.9}
    run_study(make_study(given), Written(peak_at(sgd=0.1, adam=0.003)), quiet)
    chosen = yaml.safe_load((tmp_path / "results" / "chosen.yaml").read_text())["digits"]["sgd"]
    assert chosen["optimizer"]["name"] == "sgd"
    assert (chosen["optimizer"]["lr"], chosen["optimizer"]["momentum"]) == (0.1, 0.9)
    assert chosen["benchmark"] == "permuted_digits"
    assert chosen["tuned"] == {"optimizer.lr": 0.1}
    assert chosen["seeds"] == "100-101"


def test_the_tables_are_files(given, tmp_path):
    _, tables = run_study(make_study(given), Written(peak_at(sgd=0.1, adam=0.003)), quiet)
    folder = tmp_path / "results"
    assert (folder / "answer.md").read_text() == tables.answer
    comparison = pd.read_csv(folder / "comparison.csv")
    assert list(comparison["method"]) == ["sgd", "adam"]
    assert pd.read_csv(folder / "runs.csv")["folder"].map(lambda path: (folder / path / "status.json").exists()).all()
    text = (folder / "digits.md").read_text()
    assert text.splitlines()[0].startswith("| method | seeds | Early | Late | Change | Mean |")
    assert r"\toprule" in (folder / "digits.tex").read_text()
    assert comparison["tasks"].iloc[0] == TASKS


def test_differences_are_shown_in_the_unit_of_what_was_measured():
    row = {"method": "adam", "reference": "sgd", "measure": "mean", "p": 0.0625, "p_holm": 0.5, "seeds": 5}
    numbers = {"difference": -0.0259, "low": -0.029, "high": -0.0235}
    differences = pd.DataFrame([{"benchmark": name, **row, **numbers} for name in ("digits", "regression")])
    measured = pd.DataFrame({"benchmark": ["digits", "regression"], "measure": ["online_accuracy", "online_loss"]})
    shown = paper_differences(differences, measured)["difference"]
    assert list(shown) == ["-2.6 pp [-2.9, -2.4]", "-0.026 [-0.029, -0.024]"]
