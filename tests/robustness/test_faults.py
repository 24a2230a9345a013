"""Full disks, read-only folders, vanished data, missing devices, damaged run folders: one line, and nothing lost."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np
import pytest
import torch

from lop.runner import run
from lop.runs import CHECKPOINTS, SCHEMA, RunFolder, checkpoint, load
from lop.utils.errors import UserError

FULL = "the disk is full; free some space and run the same command again"


def config(data_dir, folder, benchmark="permuted_digits", **overrides):
    overrides = {"run.checkpoint_every": 1, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return micro.micro_config(benchmark, data_dir, folder, optimizer="sassha", algos=["ema"], overrides=overrides)


def refused(configuration) -> str:
    with pytest.raises(UserError) as error:
        run(configuration, summaries=False)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def check_nothing_lost(configuration, whole) -> None:
    """The last checkpoint is good, and the same command finishes the run as if nothing had happened."""
    again = run(configuration, summaries=False)
    assert again.resumed
    assert again.status == "finished"
    assert micro.differences(whole.folder, again.folder) == []


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    torch.set_num_threads(1)
    return run(config(data_dir, tmp_path_factory.mktemp("whole")), summaries=False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("operation", ["open", "fsync", "replace"])
def test_any_failing_write_leaves_the_last_checkpoint(tmp_path, data_dir, whole, monkeypatch, operation, number):
    """From some moment on every write fails, the way the system reports it."""
    configuration = config(data_dir, tmp_path)
    real = {"open": open, "fsync": os.fsync, "replace": os.replace}[operation]
    calls = {"left": 25 if operation == "fsync" else 9}

    def failing(*args, **kwargs):
        if operation == "open" and (args[1:] or ("r",))[0] in ("r", "rb"):
            return real(*args, **kwargs)
        calls["left"] -= 1
        if calls["left"] <= 0:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        if operation == "open":
            for module in ("lop.utils.files", "lop.runs.table"):
                patch.setattr(f"{module}.open", failing, raising=False)
        else:
            patch.setattr(f"lop.utils.files.os.{operation}", failing)
        message = refused(configuration)
    assert (FULL if number in (errno.ENOSPC, errno.EDQUOT) else "cannot be written") in message
    assert str(tmp_path) in message
    assert not list(tmp_path.rglob("*.tmp"))
    checkpoint.load(next(tmp_path.rglob("checkpoint*.pt")))
    check_nothing_lost(configuration, whole)


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
sys.path.insert(0, sys.argv.pop(1))
from lop.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_kernel_refuses_to_write_more(tmp_path, data_dir, whole):
    """A real refusal in the middle of a file, by a limit on file sizes: needs neither root nor a small disk."""
    configuration = config(data_dir, tmp_path / "results")
    size = (whole.folder / "checkpoint.pt").stat().st_size
    source = str(Path(__file__).parents[2] / "lop-src")
    path = tmp_path / "config.json"
    path.write_text(configuration.model_dump_json())
    command = [sys.executable, "-c", LIMITED, str(size - 4096), source, "mnist", "-c", str(path), "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert FULL in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.tmp"))
    again = run(configuration, summaries=False)
    assert micro.differences(whole.folder, again.folder) == []


def mount(folder: Path, *options: str) -> None:
    """Skips the test, and says why, where the system does not let us."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("no mount command here")
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def test_a_small_disk_that_fills_up(tmp_path, data_dir, whole):
    """On a tmpfs of its own, where mounting is allowed."""
    disk = tmp_path / "disk"
    mount(disk, "-t", "tmpfs", "-o", "size=256k", "none")
    try:
        configuration = config(data_dir, disk, run__keep_weights=True, benchmark__num_tasks=40)
        assert FULL in refused(configuration)
        assert not list(disk.rglob("*.tmp"))
        state = checkpoint.load(next(disk.rglob("checkpoint.pt")))
        assert state["position"]["total"] > 0
        subprocess.run(["mount", "-o", "remount,size=64m,ro", str(disk)], check=True)
        assert "cannot be written (Read-only file system); choose another folder" in refused(configuration)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert run(configuration, summaries=False).status == "finished"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("results_dir", ["/proc/nothing", "{file}", "{file}/below", "x" * 300])
def test_a_folder_that_cannot_be_made(tmp_path, data_dir, results_dir):
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert "choose another folder" in refused(config(data_dir, results_dir.format(file=file)))


def test_data_that_vanishes_in_mid_run(tmp_path, data_dir):
    own = tmp_path / "classes"
    shutil.copytree(data_dir / "imagenet32" / "classes", own)
    settings = {"benchmark__dataset": str(own), "benchmark__num_tasks": 4}
    whole = run(config(data_dir, tmp_path / "whole", "imagenet", **settings), summaries=False)
    configuration = config(data_dir, tmp_path / "parts", "imagenet", **settings)
    away = tmp_path / "away"

    def vanish(path, state, previous=None, save=checkpoint.save):
        save(path, state, previous)
        if path.name == "checkpoint.pt" and state["position"]["task"] == 2 and not away.exists():
            own.rename(away)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lop.runs.folder.checkpoint.save", vanish)
        assert ".npy is missing" in refused(configuration)
    assert refused(configuration).startswith("benchmark.dataset ")  # still gone
    away.rename(own)
    check_nothing_lost(configuration, whole)
    np.save(own / "0.npy", np.zeros((3, 2)))
    assert "0.npy" in refused(config(data_dir, tmp_path / "broken", "imagenet", **settings))


def test_a_gpu_that_is_not_there(tmp_path, data_dir, whole):
    configuration = config(data_dir, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lop.training.stopping.StopRequest.due", lambda self: True)
        assert run(configuration, summaries=False).status == "interrupted"
    for device in ("cuda:77", "mps"):
        assert "use run.device=cpu" in refused(config(data_dir, tmp_path, run__device=device))
    check_nothing_lost(configuration, whole)


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [[], ["--quiet"]])
def test_standard_output_on_a_full_device(tmp_path, data_dir, whole, arguments):
    """Both while summaries are printed and, with --quiet, when the last line is flushed: one line, nothing lost."""
    configuration = config(data_dir, tmp_path / "results")
    path = tmp_path / "config.json"
    path.write_text(configuration.model_dump_json())
    command = [sys.executable, str(Path(__file__).parents[2] / "lop-src" / "main.py"), "mnist", "-c", str(path)]
    with open("/dev/full", "w") as full:
        result = subprocess.run([*command, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    lines = [line for line in result.stderr.splitlines() if "error" in line.lower() or "Traceback" in line]
    assert result.returncode == 2
    assert len(lines) == 1, result.stderr
    assert "standard output cannot be written (No space left on device)" in lines[0]
    again = run(configuration, summaries=False)
    assert micro.tables(again.folder) == micro.tables(whole.folder)


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
