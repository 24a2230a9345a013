"""What is done differently on Kaggle and Colab: what a GPU is worth, and how results get out of the session."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lop.data import DATASETS
from lop.plan import BENCHMARKS
from lop.runner import RunResult
from lop.runs import CHECKPOINTS, read_config
from lop.utils.errors import UserError, lookup
from lop.utils.place import kaggle_folder, place

POPULATION = "0-29"  # the field's thirty seeds: on a GPU they cost little more than one
DIGITS_LIKE = ("mnist", "fashion_mnist", "emnist")
LARGER = {"net.hidden": [100, 100, 100]}  # of permuted MNIST: checkpoints of thirty nets stay small
TASKS = 150
KEEP = ("drive", "download")
DRIVE = "/content/drive"


def gpu_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is trained on Kaggle with a GPU where the parameters do not say: a population worth it.

    Permuted images of an MNIST-like data set that is attached, else of the digits. Empty everywhere else, and where a
    benchmark, a config or a device was chosen.
    """
    chosen = any(parameters.get(name) is not None for name in ("benchmark", "config", "device", "dataset"))
    if place() != "kaggle" or chosen or not torch.cuda.is_available():
        return {}
    records = [DATASETS[name] for name in DIGITS_LIKE]
    found = next((record.name for record in records if record.find_in(record, [kaggle_folder("input")])), None)
    given: dict[str, Any] = {} if found is None else {"benchmark": "permuted_mnist", "dataset": found}
    if found is not None and not parameters.get("overrides"):
        given["overrides"] = LARGER
    if found is not None and parameters.get("num_tasks") is None:
        given["num_tasks"] = TASKS
    if parameters.get("seed") is None and parameters.get("seeds") is None:
        given["seeds"] = POPULATION
    print(f"There is a GPU: {', '.join(f'{name} {value}' for name, value in given.items())}, unless you say otherwise.")
    return given


def drive_folder() -> str:
    """The results folder on the user's Google Drive, mounted. Raises UserError outside Colab."""
    _colab("drive").drive.mount(DRIVE)
    return f"{DRIVE}/MyDrive/lop-results"


def hand_out(runs: Sequence[RunResult], keep: str | None) -> None:
    """With `download`, give the browser all tables of these runs as one file; otherwise nothing.

    Checkpoints stay behind: a run is gone on with in its own session or from a drive. Raises UserError outside Colab.
    """
    if keep != "download":
        return
    colab = _colab(keep)
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            ignored = shutil.ignore_patterns(*CHECKPOINTS, "*.tmp", ".lock", "weights")
            shutil.copytree(run.folder, Path(folder, "results", run.folder.name), ignore=ignored)
        archive = shutil.make_archive("lop-results", "zip", folder)
    colab.files.download(archive)


def check_keep(keep: Any) -> None:
    """Raises UserError for what `keep` cannot be."""
    if keep is not None:
        lookup(dict.fromkeys(KEEP), keep, "way to keep results (keep)")


def _colab(what: str) -> Any:
    try:
        return importlib.import_module("google.colab")
    except ImportError:
        raise UserError(f"keep: {what!r} is for Colab; here the results are in results_dir") from None


def thin(runs: Sequence[RunResult]) -> None:
    """Delete the checkpoints of finished runs, which nothing goes on from, so that a session's output can be attached.

    Those of policies are kept: the rollout is made from them.
    """
    saved = 0
    for run in runs:
        if run.status == "finished" and BENCHMARKS[read_config(run.folder).benchmark.name].kind != "control":
            for path in (run.folder / name for name in CHECKPOINTS):
                if path.exists():
                    saved += path.stat().st_size
                    path.unlink()
    if saved:
        left = sum(file.stat().st_size for run in runs for file in run.folder.rglob("*") if file.is_file())
        print(f"Checkpoints of finished runs are deleted; what is left, {left / 2**20:.1f} MiB, can be attached.")
