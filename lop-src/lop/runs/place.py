"""Which folders are run folders: strictly below the results folder, and new, empty or marked as ours."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from lop.config import Config
from lop.runs.table import TABLES
from lop.utils.errors import UserError
from lop.utils.files import disk_errors, make_folder, read_regular, sync_folder

MARK = ".run-folder"  # written first: what else is in its folder under our names is ours
MARK_TEXT = "A run's folder: lop writes, moves aside and deletes its own files here.\n"
LOCK = ".lock"
ASIDE = "old-"  # what an earlier run left, below its own folder
CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")
# the config last: as long as it is there, a killed process's work is taken up again
OWN_NAMES = (*(f"{name}.csv" for name in TABLES), *(f"analysis_{name}.csv" for name in TABLES), "weights")
OWN_NAMES += ("tensorboard", *CHECKPOINTS, "versions.json", "status.json", "config.json")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no files on Windows


def results_folder(results_dir: str | Path) -> Path:
    """The results folder, `~` expanded. Raises UserError where there is no such home."""
    try:
        return Path(results_dir).expanduser()
    except RuntimeError:
        raise UserError(f"run.results_dir: {results_dir}: no such home folder; write the path in full") from None


def run_folder_of(config: Config) -> Path:
    """Where a config's run goes, whether it is there or not. Raises UserError for a name that is no folder's."""
    name = config.run_name()
    reason = None
    if name.startswith(".") or name.endswith((".", " ")):
        reason = "must not begin or end with a dot"
    elif name.startswith(ASIDE):
        reason = f"must not begin with {ASIDE}, which marks what earlier runs left"
    elif re.search(r'[/\\:*?"<>|\0]', name) or DEVICES.fullmatch(name) or name in OWN_NAMES:
        reason = "is not a folder's name on every system"
    if reason:
        raise UserError(f"run.name: {name!r} {reason}; choose another")
    return results_folder(config.run.results_dir) / name


def claim(path: Path) -> None:
    """Make a run folder, or see that it is one, and mark it.

    Raises UserError, and touches nothing, for a folder with anything in it that carries no mark, and for links.
    """
    make_folder(path.parent)
    if _leads_elsewhere(path):
        raise UserError(f"{path}: a link to another folder; choose another run.name")
    make_folder(path)
    with disk_errors(path):
        entries = list(os.scandir(path))
    names = {entry.name for entry in entries}
    if MARK not in names:
        if names - {LOCK} and not _is_of_an_earlier_version(path):
            raise UserError(f"{path}: holds files that are not a run's; choose another run.name or run.results_dir")
        with disk_errors(path), open(path / MARK, "a") as file:
            file.write(MARK_TEXT)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path)
    if linked := [name for name in (*OWN_NAMES, MARK, LOCK) if (path / name).is_symlink()]:
        raise UserError(f"{path / linked[0]}: a link; a run writes files of its own only, move it away")
    for entry in entries:
        if entry.name in OWN_NAMES and not entry.is_file() and not entry.is_dir():
            raise UserError(f"{entry.path}: not a regular file; a run writes files of its own only, move it away")


def _leads_elsewhere(path: Path) -> bool:
    """Whether the folder's last step is a link (or a junction): then its files would be somewhere else."""
    expected = os.path.join(os.path.realpath(path.parent), path.name)
    return os.path.lexists(path) and os.path.normcase(os.path.realpath(path)) != os.path.normcase(expected)


def _is_of_an_earlier_version(path: Path) -> bool:
    try:
        config, status = (json.loads(read_regular(path / name)) for name in ("config.json", "status.json"))
    except (OSError, ValueError):
        return False
    if not isinstance(config, dict) or not isinstance(status, dict):
        return False
    return {"benchmark", "net", "optimizer", "run"} <= config.keys() and {"schema", "state"} <= status.keys()


def clean(path: Path) -> None:
    """Delete what a kill left half written: files under our own names only."""
    left = [path / f"{name}.tmp" for name in OWN_NAMES]
    left += (path / "weights").glob("task*_*.pt.tmp")
    with disk_errors(path):
        for temporary in left:
            if temporary.is_file() or temporary.is_symlink():
                temporary.unlink()


def own_files(path: Path) -> list[Path]:
    """What an earlier run left here, the config last."""
    return [path / name for name in OWN_NAMES if os.path.lexists(path / name)]


def set_aside(path: Path) -> None:
    """Keep what an earlier run left, under another name, so that starting again loses nothing."""
    number = 1
    while os.path.lexists(aside := path / f"{ASIDE}{number}"):
        number += 1
    with disk_errors(aside):
        aside.mkdir()
        for item in own_files(path):
            item.rename(aside / item.name)
        sync_folder(aside)
        sync_folder(path)


def bring(source: Path, target: Path) -> None:
    """Copy a run's files, and no others, to a new run folder. A kill leaves the whole folder or none.

    Raises UserError when it cannot be written or the place where it is put together holds what is not a run's.
    """
    part = target.with_name(f".{target.name}.part")  # no run has such a name
    claim(part)
    with disk_errors(target):
        shutil.rmtree(part)
    claim(part)
    with disk_errors(target):
        for item in own_files(source):
            if item.is_dir():  # without its mode: what is attached is read-only
                (part / item.name).mkdir()
            for file in item.iterdir() if item.is_dir() else [item]:
                shutil.copyfile(file, part / file.relative_to(source))
        part.rename(target)
        sync_folder(target.parent)
