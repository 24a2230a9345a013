"""Full disks, read-only folders, vanished data, missing devices, damaged run folders: one line, and nothing lost."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np
import pytest
from faulty_runs import check_nothing_lost, config, refused

from lop.runner import run
from lop.runs import checkpoint

FULL = "the disk is full; free some space and run the same command again"


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        *((operation, errno.ENOSPC) for operation in ("open", "fsync", "replace")),
        *(("open", errno.EDQUOT), ("replace", errno.EROFS), ("fsync", errno.EIO)),
    ],
)
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
