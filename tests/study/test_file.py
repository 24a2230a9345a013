"""A study's file: every mistake is one line with its key; grids, seeds, budgets."""

import json

import pytest

from lop.study import command, make_study, read_study
from lop.study.file import rounded
from lop.utils.errors import UserError


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("methods.sgd.optimiser", "sgd", r"methods\.sgd\.optimiser: unknown key; did you mean 'optimizer'"),
        ("methods.sgd.optimizer", "sgdd", r"methods\.sgd: .*sgdd.*did you mean 'sgd'.*on digits"),
        ("methods.sgd.tune", {"optimizer.lrr": [1, 2]}, r"methods\.sgd: .*optimizer\.lrr: unknown key"),
        ("methods.sgd.tune", {"optimizer.lr": 0.1}, r"methods\.sgd\.tune\.optimizer\.lr: expected a list of values"),
        ("methods.sgd.tune", {"optimizer.lr": [0.1, 0.1]}, r"tune\.optimizer\.lr: give every value once"),
        (
            "methods.sgd.tune",
            {"optimizer.lr": {"low": 1, "high": 2, "pionts": 3}},
            r"lr\.points: missing|lr\.pionts: unknown",
        ),
        ("methods.sgd.tune", {"optimizer.lr": {"low": 2, "high": 1, "points": 3}}, r"tune\.optimizer\.lr\.points"),
        ("methods.sgd.only", ["digit"], r"methods\.sgd\.only: unknown benchmark 'digit'; did you mean 'digits'"),
        ("methods", {}, r"methods: name at least one"),
        ("methods.a b", {"optimizer": "sgd"}, r"methods: 'a b' is no name"),
        ("benchmarks.digits.set", {"benchmark.num_taks": 3}, r"benchmark\.num_taks: unknown key"),
        ("benchmarks.digits.config", "x.json", r"benchmarks\.digits: give a benchmark's name or a config's path"),
        ("evaluation.seeds", "0-100", r"evaluation\.seeds: seed 100 is a tuning seed, too"),
        ("evaluation.seeds", "x", r"evaluation\.seeds: expected numbers"),
        ("tuning.budget", 2, r"methods\.sgd\.tune: 3 settings, and tuning\.budget is 2"),
        ("tuning.select", "test", r"tuning\.select must be one of online_accuracy"),
        ("executor", {"name": "local", "paralel": 3}, r"executor\.paralel: unknown key; did you mean 'parallel'"),
        ("reference", "sgdd", r"reference: no such method, 'sgdd'; did you mean 'sgd'"),
        ("plugins", ["nowhere.py"], r"plugins: nowhere\.py: no such file"),
    ],
)
def test_mistakes_are_one_line_with_the_key(given, path, value, message):
    *parents, last = path.split(".")
    node = given
    for part in parents:
        node = node[part]
    node[last] = value
    with pytest.raises(UserError, match=message) as caught:
        make_study(given)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_as_configs_are(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("benchmarks: {d: {benchmark: permuted_digits}}\nmethods: {sgd: {optimizer: sgd}}\nbudget: 3\n")
    with pytest.raises(UserError, match="budget: unknown key"):
        read_study(path)
    path.write_text("benchmarks: {d: {benchmark: permuted_digits}}\nmethods: {sgd: {optimizer: sgd}}\n")
    study = read_study(path)
    assert (study.name, study.reference, [case.settings() for case in study.cases]) == ("x", "sgd", [[{}]])


def test_a_spread_is_evenly_spaced_in_the_logarithm(given):
    given["methods"]["sgd"]["tune"] = {"optimizer.lr": {"low": 0.003, "high": 3, "points": 4, "scale": "log"}}
    (case, _) = make_study(given).cases
    assert case.axes == {"optimizer.lr": [0.003, 0.03, 0.3, 3.0]}
    assert rounded(0.0123456) == 0.0123


def test_options_of_interventions_are_tuned_by_their_place(given):
    tune = {"optimizer.lr": [0.1, 0.2], "algos.0.replacement_rate": [1e-5, 1e-4]}
    given["methods"] = {"cbp": {"optimizer": "sgd", "algos": ["cbp"], "tune": tune}}
    (case,) = make_study(given).cases
    configs = [case.make(setting, 100, True) for setting in case.settings()]
    found = {(config.optimizer.options["lr"], config.algos[0].options["replacement_rate"]) for config in configs}
    assert found == {(0.1, 1e-5), (0.1, 1e-4), (0.2, 1e-5), (0.2, 1e-4)}


def test_tuning_runs_measure_no_diagnostics_and_are_runs_of_their_own(given):
    case = make_study(given).cases[0]
    tuning, evaluation = (case.make({"optimizer.lr": 0.1}, 7, tunes) for tunes in (True, False))
    assert (tuning.run.diagnostics, evaluation.run.diagnostics) == (False, True)
    assert tuning.run_name() != evaluation.run_name()


def test_a_part_is_the_named_methods_the_reference_and_nothing_else(given, tmp_path):
    given["benchmarks"]["more"] = {"benchmark": "permuted_digits"}
    given["methods"] |= {"adamw": {"optimizer": "adamw"}, "lion": {"optimizer": "sgd", "only": ["digits"]}}
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(given))
    study = command.read(path, command.part(path, ["adamw"], ["more"]))
    assert [case.name for case in study.cases] == ["sgd on more", "adamw on more"]
    assert study.results_dir != read_study(path).results_dir  # the tables of the whole study stay
    only = command.read(path, command.part(path, [], ["more"]))
    assert [case.method for case in only.cases] == ["sgd", "adam", "adamw"]
    with pytest.raises(UserError, match=r"methods: no 'adamv'; did you mean"):
        command.part(path, ["adamv"], [])
