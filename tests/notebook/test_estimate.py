"""What is said before training."""

from types import SimpleNamespace

import pytest

from lop import pace
from lop.notebook import estimate as module
from lop.notebook.choice import configs_of
from lop.notebook.estimate import Pace, advice, measure, preview, time_limit
from lop.runner import run_population

SMALL = {"benchmark.epochs": 1, "net.hidden": [8], "run.threads": 1, "run.device": "cpu"}


def configs(tmp_path, **parameters):
    return configs_of(results_dir=str(tmp_path), num_tasks=3, overrides=SMALL, **parameters)


def test_what_and_about_how_long(tmp_path, monkeypatch, capsys):
    asked = []

    def fake(members):
        asked.append([config.run.seed for config in members])
        return Pace(seconds=40.0, tasks=3, steps=267, data="digits")

    monkeypatch.setattr(module, "measure", fake)
    preview(configs(tmp_path, seeds="0-2"))
    said = capsys.readouterr().out
    assert "sassha, sgd (3 seeds each) on permuted_digits: 3 tasks of 89 steps, about 80 seconds.\n" in said
    (where,) = said.splitlines()[1:]
    assert where.startswith("place: local, ")
    assert where.endswith(". Data: digits.")
    assert asked == [[0, 1, 2], [0, 1, 2]]


def test_what_is_done_is_not_counted(tmp_path, monkeypatch, capsys):
    sassha = configs(tmp_path, seeds="0-1", baseline=False)
    run_population(sassha[:1], summaries=False)
    asked = []
    monkeypatch.setattr(module, "measure", lambda members: asked.append(members) or Pace(1.0, 3, 267, "digits"))
    preview(sassha)
    assert asked == [sassha[1:]]
    preview(sassha[:1])
    assert "trained earlier" in capsys.readouterr().out
    assert len(asked) == 1


def test_a_population_is_timed_and_nothing_is_written(tmp_path):
    found = measure(configs(tmp_path, seeds="0-5", baseline=False, optimizer="sgd"))
    assert (found.tasks, found.steps) == (3, 3 * 89)
    assert found.seconds > 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_an_interrupted_run_is_less(tmp_path, monkeypatch):
    chosen = configs(tmp_path, seed=0, baseline=False)
    monkeypatch.setattr(module, "read_status", lambda folder: {"state": "interrupted", "tasks_done": 2})
    clock = iter(range(1000))
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    # every step and the diagnostics of a task take a second of this clock: 267 + 3, of which a third is left
    assert measure(chosen).seconds == pytest.approx((267 + 3) / 3)


def test_too_long_is_pointed_out():
    assert advice(600, None) == ""
    assert advice(7200, 3.0) == ""
    assert "time limit of 1.5 hours" in advice(7200, 1.5)
    assert "fewer tasks" in advice(7200, None)


def test_kaggle_has_a_limit_below_its_own(tmp_path, monkeypatch):
    chosen = configs(tmp_path, seed=0)
    assert time_limit(chosen) is None
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert time_limit(chosen) == 8.5
    assert time_limit(configs(tmp_path, seed=0, time_limit_hours=2)) == 2
