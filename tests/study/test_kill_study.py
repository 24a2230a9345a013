"""The command of a study: killed with a worker in mid-run, it goes on to the same tables; a rehearsal; its status."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from in_process import Here

from lop.cli import main
from lop.executors import EXECUTORS
from lop.study import Driver, make_study
from lop.study.tables import comparison_table, runs_table

ROOT = Path(__file__).parents[2]
SMALL = {
    "benchmarks": {
        "digits": {
            "benchmark": "permuted_digits",
            "set": {"benchmark.num_tasks": 6, "benchmark.epochs": 1, "net.hidden": [4], "run.device": "cpu"},
        }
    },
    "methods": {
        "sgd": {"optimizer": "sgd", "tune": {"optimizer.lr": [0.1, 0.3]}},
        "adam": {"optimizer": "adam", "tune": {"optimizer.lr": [0.003, 0.01]}},
    },
    "tuning": {"seeds": "100-101", "extend": 0, "set": {"run.checkpoint_every": 40}},
    "evaluation": {"seeds": "0-1"},
    "executor": {"name": "local", "parallel": 1},
}


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "results_dir": str(tmp_path / name)}))
    return path


def wait_for(what, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killed_with_a_worker_it_goes_on_to_the_same_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(EXECUTORS, "here", Here)
    path, results = written(tmp_path, "killed"), tmp_path / "killed"
    command = [sys.executable, str(ROOT / "lop-src" / "main.py"), "study", "-c", str(path), "--no-report"]
    driver = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(results.glob("runs/*/checkpoint.pt")))
    workers = [one for one in driver.children() if "spawn_main" in " ".join(one.cmdline())]
    workers[0].kill()
    wait_for(lambda: len(driver.children()) and not alive(workers[0]))
    family = driver.children(recursive=True)
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(map(alive, family)))
    assert main(["study", "-c", str(path), "--no-report", "--executor", "here"]) == 0
    said = capsys.readouterr().out
    assert "has the best mean online accuracy" in said
    study = make_study({**SMALL, "results_dir": str(tmp_path / "whole")})
    whole = Driver(study, Here()).run()
    killed = Driver(make_study({**SMALL, "results_dir": str(results)})).read()
    for table in (runs_table, lambda result: comparison_table(result, {})):
        one, other = (table(result).drop(columns="seconds_per_task") for result in (whole, killed))
        pd.testing.assert_frame_equal(one, other)
    assert main(["status", str(results)]) == 0
    assert f"run folders: {len(killed.trials)} finished" in capsys.readouterr().out


def test_a_rehearsal_says_what_would_be_trained_and_trains_nothing(tmp_path, capsys):
    assert main(["study", "-c", str(written(tmp_path, "dry")), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "sgd on digits: 6 runs, 0 done, 2 populations to train" in said
    assert "MB a run" in said
    assert "12 runs, 0 of them done; about" in said
    assert not (tmp_path / "dry").exists()


def test_a_mistake_is_one_line_and_status_needs_a_folder(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text("benchmarks: {d: {benchmark: permuted_digits}}\nmethods: {sgd: {optimizer: sgdd}}\n")
    assert main(["study", "-c", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: methods.sgd:")
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "status"), [("nowhere.yaml", 2)])
def test_a_file_that_is_not_there(name, status, capsys):
    assert main(["study", "-c", name]) == status
    assert "study file nowhere.yaml" in capsys.readouterr().err
