"""Run folders that are not gone on from as they are, or only with a word about it."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np
import pytest
from faulty_runs import config, refused

from lop.runner import run
from lop.runs import CHECKPOINTS, SCHEMA, RunFolder, checkpoint, load

HOLD = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path, data_dir, whole):
    configuration = config(data_dir, tmp_path)
    with RunFolder(configuration) as folder:
        lock = folder.path / ".lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert "another process is running here; wait for it" in refused(configuration)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock.exists()
    result = run(configuration, summaries=False)
    assert micro.differences(whole.folder, result.folder) == []


def damaged(tmp_path, data_dir, name: str, content: str | bytes) -> str:
    """What is said about a finished run's folder when one of its files holds something else."""
    configuration = config(data_dir, tmp_path)
    folder = run(configuration, summaries=False).folder
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if name == "checkpoint.pt":
        (folder / "checkpoint.previous.pt").unlink()
    status = folder / "status.json"
    if name != "status.json":
        status.write_text(json.dumps({**json.loads(status.read_text()), "state": "running"}))
    message = refused(configuration)
    assert str(path) in message or str(folder) in message
    assert run(config(data_dir, tmp_path, run__resume="never"), summaries=False).status == "finished"
    assert (folder / "old-1" / name).read_bytes() == path.parent.joinpath("old-1", name).read_bytes()
    assert len(load(folder).runs) == 1
    return message


@pytest.mark.parametrize("status", [{"schema": SCHEMA - 1, "state": "running"}, {"state": "running"}])
def test_another_schema_is_refused_and_says_what_to_do(tmp_path, data_dir, status):
    message = damaged(tmp_path, data_dir, "status.json", json.dumps(status))
    assert "written by another version" in message
    assert "run.resume=never" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", "{half"),
        ("status.json", "[]"),
        ("config.json", '{"benchmark": 3}'),
        ("config.json", b"\xff\x00"),
        ("checkpoint.pt", b"PK\x03\x04 half of a zip"),
        ("tasks.csv", ""),
    ],
)
def test_damaged_files_are_refused(tmp_path, data_dir, name, content):
    assert "run.resume=never" in damaged(tmp_path, data_dir, name, content) or name == "config.json"


@pytest.mark.parametrize("change", ["missing", "shape", "type"])
def test_a_checkpoint_of_another_experiment_is_refused(tmp_path, data_dir, change):
    configuration = config(data_dir, tmp_path)
    folder = run(configuration, summaries=False).folder
    state = checkpoint.load(folder / "checkpoint.pt")
    if change == "missing":
        del state["recorder"]
    elif change == "shape":
        state["learner"]["net"] = {name: value[:1] for name, value in state["learner"]["net"].items()}
    else:
        state["learner"]["optimizer"] = 3
    checkpoint.save(folder / "checkpoint.pt", state)
    status = folder / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "running"}))
    message = refused(configuration)
    assert "of another experiment or version" in message
    assert "run.resume=never" in message


def test_starting_again_survives_a_kill_in_mid_move(tmp_path, data_dir, whole):
    run(config(data_dir, tmp_path), summaries=False)
    again = config(data_dir, tmp_path, run__resume="never")
    moves = {"left": 4}

    def killed(self, target, rename=Path.rename):
        moves["left"] -= 1
        if moves["left"] == 0:
            raise KeyboardInterrupt
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            run(again, summaries=False)
    result = run(again, summaries=False)
    assert not result.resumed
    assert micro.tables(result.folder) == micro.tables(whole.folder)
    kept = [path.name for path in result.folder.glob("old-*/*")]
    assert sorted(kept) == sorted(set(kept))
    assert {"checkpoint.pt", "tasks.csv", "config.json"} <= set(kept)


def test_data_that_change_between_a_stop_and_the_next_start(tmp_path, data_dir):
    own = tmp_path / "classes"
    shutil.copytree(data_dir / "imagenet32" / "classes", own)
    configuration = config(data_dir, tmp_path / "results", "imagenet", benchmark__dataset=str(own))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lop.training.stopping.StopRequest.due", lambda self: True)
        assert run(configuration, summaries=False).status == "interrupted"
    images = np.load(own / "0.npy")
    np.save(own / "0.npy", 255 - images)
    assert "the data set is not the one that this run began with" in refused(configuration)
    np.save(own / "0.npy", images)
    assert run(configuration, summaries=False).status == "finished"


@pytest.mark.parametrize("resume", ["auto", "require"])
def test_a_finished_run_without_its_checkpoints_is_reported_and_not_redone(tmp_path, data_dir, resume):
    first = run(config(data_dir, tmp_path), summaries=False)
    for name in CHECKPOINTS:
        (first.folder / name).unlink()
    before = {path: path.read_bytes() for path in first.folder.glob("*.csv")}
    assert len(before) > 3
    again = run(config(data_dir, tmp_path, run__resume=resume), summaries=False)
    assert again.status == "finished"
    assert again.resumed
    assert again.tasks.equals(first.tasks)
    assert {path: path.read_bytes() for path in first.folder.glob("*.csv")} == before
    (first.folder / "tasks.csv").unlink()  # what is there is reported
    again = run(config(data_dir, tmp_path, run__resume=resume), summaries=False)
    assert (again.status, len(again.tasks), len(again.layers)) == ("finished", 0, len(first.layers))


def test_an_unfinished_run_whose_checkpoints_are_gone_keeps_its_rows(tmp_path, data_dir):
    """Starting again would clear the tables of tasks that somebody paid for."""
    folder = run(config(data_dir, tmp_path), summaries=False).folder
    for name in CHECKPOINTS:
        (folder / name).unlink()
    (folder / "status.json").write_text(json.dumps({"schema": SCHEMA, "state": "interrupted"}))
    before = {path: path.read_bytes() for path in folder.glob("*.csv")}
    assert "checkpoint.pt: gone, with the one before it; put the right one back" in refused(config(data_dir, tmp_path))
    assert {path: path.read_bytes() for path in folder.glob("*.csv")} == before
    assert run(config(data_dir, tmp_path, run__resume="never"), summaries=False).status == "finished"
    assert (folder / "old-1" / "tasks.csv").read_bytes() == before[folder / "tasks.csv"]


def test_a_batch_larger_than_a_later_task_is_refused_before_the_first_is_trained(tmp_path, data_dir):
    """Easy tasks of 5+1 CIFAR hold fewer images than the hard one that comes first."""
    large = config(data_dir, tmp_path, "five_plus_one_cifar", benchmark__batch_size=7)
    assert refused(large).startswith("benchmark.batch_size must be <= the 6 examples of a task, got 7")
    assert not list(tmp_path.rglob("online.csv"))
