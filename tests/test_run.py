import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from generated_data import write_cifar

from lop.algos.early_stopping import EarlyStopping
from lop.plan import make_config
from lop.runner import run
from lop.runs import checkpoint, load
from lop.utils.errors import UserError

MAIN = Path(__file__).parents[1] / "lop-src" / "main.py"
TABLES = ("tasks", "layers", "online", "events")
SMALL = {
    "benchmark.num_tasks": 3,
    "benchmark.epochs": 1,
    "benchmark.examples_per_task": 160,
    "net.hidden": [20, 20],
    "metrics.reference_size": 16,
    "metrics.ntk_size": 8,
    "run.device": "cpu",
    "optimizer.lr": 0.01,
}


def small_config(tmp_path, **more):
    overrides = {**SMALL, "run.results_dir": str(tmp_path), **more}
    optimizer, algos = overrides.pop("optimizer", "sgd"), overrides.pop("algos", [])
    return make_config(benchmark="permuted_digits", optimizer=optimizer, algos=algos, overrides=overrides)


def read_tables(folder):
    return {name: (folder / f"{name}.csv").read_bytes() for name in TABLES if (folder / f"{name}.csv").exists()}


def test_tables_of_a_run(tmp_path, capsys):
    result = run(small_config(tmp_path, optimizer="sassha"))
    assert result.status == "finished"
    assert result.tasks["task"].tolist() == [0, 1, 2]
    assert result.tasks["steps"].tolist() == [10, 20, 30]
    assert len(result.online) == 30
    assert result.online["examples"].tolist() == [16] * 30
    per_task = result.online.groupby("task")["accuracy"].mean()
    assert per_task.tolist() == pytest.approx(result.tasks["online_accuracy"].tolist())
    assert (result.layers["phase"].isin(["before", "after"])).all()
    assert len(result.layers) == 3 * 2 * 2
    assert result.tasks["test_acc_after"].between(0, 1).all()
    assert capsys.readouterr().out.count("Summary") == 3
    again = run(small_config(tmp_path, optimizer="sassha"))
    assert again.resumed
    assert capsys.readouterr().out == ""
    pd.testing.assert_frame_equal(again.tasks, result.tasks)


def test_a_tasks_last_diagnostics_are_of_the_weights_that_early_stopping_chose(tmp_path, monkeypatch):
    """The first epoch is made the best of three: its numbers are those of a run of one epoch."""
    monkeypatch.setattr(EarlyStopping, "_validate", lambda self, task: self._score is None)
    tables = []
    for epochs in (1, 3):
        config = small_config(tmp_path, algos=["early_stopping"], **{"benchmark.epochs": epochs})
        tables.append(run(config, summaries=False).tasks.iloc[0])
    chosen, longer = tables
    assert longer["steps"] == 3 * chosen["steps"]
    for name in ("test_acc_after", "loss_after", "eff_rank_after", "ntk_churn_after"):
        assert chosen[name] == longer[name], name


def test_diagnostics_do_not_change_training(tmp_path):
    weights = []
    for diagnostics in (True, False):
        config = small_config(tmp_path, optimizer="sassha", **{"run.diagnostics": diagnostics})
        result = run(config, summaries=False)
        weights.append(checkpoint.load(result.folder / "checkpoint.pt")["learner"]["net"])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_online_accuracy_is_of_predictions_before_each_update(tmp_path):
    result = run(small_config(tmp_path, **{"optimizer.lr": 1e-9}), summaries=False)
    first, train = result.tasks["online_accuracy"], result.tasks["train_acc_before"]
    assert first.tolist() == pytest.approx(train.tolist())  # a net that does not move sees every example once


@pytest.mark.parametrize(("optimizer", "algos"), [("sgd", []), ("sassha", ["sdp", "ema"])])
def test_stopping_at_any_step_changes_nothing(tmp_path, monkeypatch, optimizer, algos):
    whole = run(small_config(tmp_path / "whole", optimizer=optimizer, algos=algos), summaries=False)
    config = small_config(tmp_path / "parts", optimizer=optimizer, algos=algos)
    looks = {"n": 0}

    def stop_every_seventh_look(self):
        looks["n"] += 1
        self.reason = "test" if looks["n"] % 7 == 0 else None
        return self.reason is not None

    monkeypatch.setattr("lop.training.stopping.StopRequest.due", stop_every_seventh_look)
    parts = run(config, summaries=False)
    interruptions = 0
    while parts.status != "finished":
        assert parts.status == "interrupted"
        interruptions += 1
        parts = run(config, summaries=False)
    assert interruptions >= 4
    assert read_tables(parts.folder) == read_tables(whole.folder)
    states = [checkpoint.load(r.folder / "checkpoint.pt")["learner"]["net"] for r in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_sigterm_saves_and_says_resume_me(tmp_path):
    config = small_config(tmp_path, optimizer="sassha", **{"benchmark.num_tasks": 5000, "run.threads": 1})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    command = [sys.executable, str(MAIN), "mnist", "-c", str(tmp_path / "config.json"), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    folder = tmp_path / config.run_name()
    deadline = time.monotonic() + 120
    while not (folder / "online.csv").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 75, output
    assert "SIGTERM" in output
    assert "run the same command again" in output
    assert load(folder).runs["state"].tolist() == ["interrupted"]
    done = checkpoint.load(folder / "checkpoint.pt")["position"]["total"]
    assert load(folder).online["step"].max() <= done


def test_divergence_is_recorded_and_the_config_says_what_then(tmp_path):
    settings = {"optimizer.lr": 1e6}
    result = run(small_config(tmp_path, **settings), summaries=False)
    assert result.status == "finished"
    assert (result.tasks["diverged_step"] >= 0).all()
    assert result.tasks["eff_rank_before"].isna().tolist() == [False, True, True]
    stopped = run(small_config(tmp_path, **settings, **{"run.on_divergence": "stop"}), summaries=False)
    assert stopped.status == "diverged"
    events = load(stopped.folder).events
    assert events["what"].tolist() == ["diverged"]
    reset = run(small_config(tmp_path, **settings, **{"run.on_divergence": "reset_network"}), summaries=False)
    assert reset.status == "finished"
    assert reset.tasks["online_accuracy"].iloc[-1] >= 0


def test_time_limit_stops_and_the_next_session_goes_on(tmp_path):
    limited = run(small_config(tmp_path, **{"run.time_limit_hours": 1e-9}), summaries=False)
    assert (limited.status, limited.reason) == ("interrupted", "time limit")
    assert run(small_config(tmp_path), summaries=False).status == "finished"


def test_weights_are_kept_on_request(tmp_path):
    result = run(small_config(tmp_path, **{"run.keep_weights": True}), summaries=False)
    names = sorted(path.name for path in (result.folder / "weights").iterdir())
    assert names == [f"task{k:05d}_{phase}.pt" for k in range(3) for phase in ("after", "before")]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("benchmark.num_tasks", 0, "benchmark.num_tasks"),
        ("benchmark.num_task", 2, "did you mean 'num_tasks'"),
        ("optimizer.lr", -1, "optimizer.lr"),
        ("optimizer.learning_rate", 1, "optimizer.learning_rate"),
        ("optimizer.name", "sasha", "sassha"),
        ("net.activation", "rellu", "net: unknown activation 'rellu': did you mean 'relu'"),
        ("net.name", "mlpp", "mlp"),
        ("benchmark.name", "permuted_mnits", "permuted_mnist"),
        ("algos", ["sdpp"], "sdp"),
        ("algos", [{"name": "sdp", "gamma": 2}], "algos.0.gamma"),
        ("metrics.ntk_sizes", 2, "metrics.ntk_sizes"),
        ("run.device", "cuda:77", "run.device=cpu"),
    ],
)
def test_mistakes_are_one_line_and_name_the_key(tmp_path, key, value, words):
    overrides = {**SMALL, "run.results_dir": str(tmp_path), key: value}
    with pytest.raises(UserError) as error:
        run(make_config(benchmark="permuted_digits", overrides=overrides))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_small_nets_run_in_one_thread_and_the_process_keeps_its_own(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("lop.runner.Loop.train", lambda self: seen.append(torch.get_num_threads()) or ["finished"])
    torch.set_num_threads(2)
    for overrides in ({}, {"net.hidden": [800, 800]}, {"run.threads": 3}):
        run(small_config(tmp_path / str(len(seen)), **overrides))
    assert seen == [1, 2, 3]
    assert torch.get_num_threads() == 2


def test_progress_ends_at_its_end_where_tasks_grow(tmp_path):
    seen = []

    class Recorder:
        def update(self, task, num_tasks, step, steps, performance):
            seen.append((step, steps))

        def summary(self, text):
            """None is asked for."""

        def close(self):
            pass

    write_cifar(tmp_path / "cifar", train=20, test=4)
    sizes = {"num_tasks": 3, "epochs": 2, "batch_size": 25, "validation_per_class": 5, "verify": False}
    settings = {f"benchmark.{name}": value for name, value in {**sizes, "dataset": str(tmp_path / "cifar")}.items()}
    settings |= {"run.results_dir": str(tmp_path), "run.diagnostics": False, "run.device": "cpu"}
    config = make_config(benchmark="incremental_cifar", optimizer="sgd", overrides={**settings, "net.name": "mlp"})
    run(config, Recorder(), summaries=False)
    assert seen[-1] == (36, 36)  # two epochs of 75, 150 and 225 images
    assert seen[0][1] == 3 * 6  # as if all tasks were like the first
    assert all(step <= steps for step, steps in seen)
