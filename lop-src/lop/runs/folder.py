"""The run folder: resolved config, versions, status, tables and checkpoint of one run."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lop.config import Config
from lop.runs import checkpoint
from lop.runs.place import CHECKPOINTS, LOCK, claim, clean, own_files, run_folder_of, set_aside
from lop.runs.table import TABLES, Table
from lop.utils.errors import UserError
from lop.utils.files import disk_errors, read_regular, sync_folder, write_text

SCHEMA = 2
ENDED = ("finished", "diverged")  # states that are not gone on from
Place = tuple[int, int, int, int]
START: Place = (0, 0, 0, 0)


class RunningElsewhereError(UserError):
    """Another process holds the run folder."""


class RunFolder:
    """One run's folder, locked for one process while it is open (a context manager).

    Raises RunningElsewhereError when another process holds it; UserError when it cannot be written, is not a run's, or
    holds another experiment or another schema version.
    """

    def __init__(self, config: Config):
        self.config = config
        self.path = run_folder_of(config)
        self.tables = {name: Table(self.path / f"{name}.csv") for name in TABLES}
        self.checkpoint, self.previous_checkpoint = (self.path / name for name in CHECKPOINTS)
        self._lock = FileLock(self.path / LOCK, timeout=0)

    def __enter__(self) -> RunFolder:
        claim(self.path)
        try:
            with disk_errors(self.path):
                self._lock.acquire()
        except Timeout:
            raise RunningElsewhereError(
                f"{self.path}: another process is running here; wait for it or choose another run.name"
            ) from None
        except NotImplementedError:  # flock, on some network file systems
            raise UserError(f"{self.path}: files cannot be locked here; choose another run.results_dir") from None
        try:
            self._prepare()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exc) -> None:
        self._lock.release()

    def _prepare(self) -> None:
        clean(self.path)
        resume, has_config = self.config.run.resume, (self.path / "config.json").exists()
        if resume == "require" and not self.has_checkpoint() and not self.has_ended():
            raise UserError(f"{self.path}: nothing to resume; run without run.resume=require")
        if resume == "never" and own_files(self.path):
            set_aside(self.path)
        elif has_config:
            self._check_same_experiment()
        elif self.has_checkpoint():
            self._check_made_from(self._load_checkpoint())
        elif self.has_ended():
            raise UserError(f"{self.path}: config.json is gone, and nothing says what was run; set run.resume=never")
        if not (self.has_checkpoint() or self.has_ended()) and self._rows_of_tasks() > 1:
            raise UserError(f"{self.checkpoint}: gone, with the one before it; {checkpoint.START_AGAIN}")
        write_text(self.path / "config.json", self.config.model_dump_json(indent=2) + "\n")
        write_text(self.path / "versions.json", json.dumps(versions(), indent=2) + "\n")

    def _check_same_experiment(self) -> None:
        status = self.status()
        if status and status.get("schema") != SCHEMA:
            found = status.get("schema", "none")
            raise UserError(
                f"{self.path}: written by another version (schema {found}, this one writes {SCHEMA}); "
                "go on with that version, or set run.resume=never to start again"
            )
        old, now = read_config(self.path).experiment(), self.config.experiment()
        if old != now:  # also under a name that is made of the settings: folders are copied and renamed
            raise UserError(
                f"{self.path}: holds another experiment ({first_difference(old, now)} differs); "
                "choose another run.name, or set run.resume=never to start again"
            )

    def has_ended(self) -> bool:
        """Whether the run is over: then it is reported, whatever is left of it, and not trained again."""
        return self.status().get("state") in ENDED

    def _rows_of_tasks(self) -> int:
        """Every task's end is a checkpoint: with two of them, there must have been one."""
        path = self.tables["tasks"].path
        with disk_errors(path):
            return path.read_bytes().count(b"\n") - 1 if path.exists() else 0

    def has_checkpoint(self) -> bool:
        return self.checkpoint.exists() or self.previous_checkpoint.exists()

    def place(self) -> Place:
        """Task, epoch, step and steps in all at the last good checkpoint; zeros where there is none."""
        return _place_of(self._load_checkpoint()) if self.has_checkpoint() else START

    def earlier_place(self) -> Place | None:
        """The same of the checkpoint before the last one, None where there is none that is good."""
        try:
            return _place_of(checkpoint.load(self.previous_checkpoint)) if self.previous_checkpoint.exists() else None
        except UserError:
            return None

    def go_back(self) -> None:
        """The checkpoint before the last one is the last one from now on."""
        with disk_errors(self.path):
            os.replace(self.previous_checkpoint, self.checkpoint)
            sync_folder(self.path)

    def save_checkpoint(self, state: dict[str, Any], data: str) -> None:
        """Write the checkpoint and keep the one before it. data: the fingerprint of what the run learns from."""
        self.sync()
        made_from = {"schema": SCHEMA, "experiment": self.config.experiment(), "data": data}
        checkpoint.save(self.checkpoint, {**state, "made_from": made_from}, self.previous_checkpoint)

    def load_checkpoint(self, data: str) -> dict[str, Any] | None:
        """The last good checkpoint; None: there is none. data: as when it was saved.

        Raises UserError when none is good, or when it was made from other settings or other data.
        """
        if not self.has_checkpoint():
            return None
        state = self._load_checkpoint()
        self._check_made_from(state)
        if state["made_from"]["data"] != data:
            raise UserError(
                f"{self.checkpoint}: the data set is not the one that this run began with; put that back and run the "
                "same command again, or set run.resume=never to start again"
            )
        return state

    def _load_checkpoint(self) -> dict[str, Any]:
        state, damage = checkpoint.load_last_good(self.checkpoint, self.previous_checkpoint)
        if damage is not None:
            print(f"{self.checkpoint}: damaged; going on from the one before it", file=sys.stderr)
        return state

    def _check_made_from(self, state: dict[str, Any]) -> None:
        made_from, now = state.get("made_from", {}), self.config.experiment()
        if made_from.get("schema") != SCHEMA or made_from.get("experiment") != now:
            key = first_difference(made_from.get("experiment"), now)
            raise UserError(
                f"{self.checkpoint}: of another experiment or version ({key} differs); "
                "choose another run.name, or set run.resume=never to start again"
            )

    def status(self) -> dict[str, Any]:
        """state: running, interrupted, finished or diverged; tasks_done; data; schema."""
        return read_status(self.path)

    def set_status(self, state: str, **facts: Any) -> None:
        write_text(self.path / "status.json", json.dumps({"schema": SCHEMA, "state": state, **facts}, indent=2) + "\n")

    def sync(self) -> None:
        for table in self.tables.values():
            table.sync()

    def state_dict(self) -> dict:
        return {name: table.state_dict() for name, table in self.tables.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, table in self.tables.items():
            table.load_state_dict(state[name])

    def clear_tables(self) -> None:
        """Drop rows that no checkpoint vouches for: the run was killed before its first one."""
        for table in self.tables.values():
            table.path.unlink(missing_ok=True)


def _place_of(state: dict[str, Any]) -> Place:
    position = state.get("position", {})
    return tuple(position.get(name, 0) for name in ("task", "epoch", "step", "total"))


def read_status(folder: Path) -> dict[str, Any]:
    """What `RunFolder.status` says; {} where there is none yet. Raises UserError for a damaged file."""
    path = folder / "status.json"
    try:
        status = json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        status = None
    if not isinstance(status, dict):
        raise UserError(f"{path}: not the status of a run; move the folder away, or set run.resume=never")
    return status


def read_config(folder: Path) -> Config:
    """The resolved config of a run folder. Raises UserError when it is damaged or another version's."""
    path = folder / "config.json"
    try:
        return Config.model_validate_json(read_regular(path))
    except (OSError, ValueError):  # pydantic's errors are ValueErrors
        raise UserError(f"{path}: not a config of this version; move the folder away, or choose another") from None


def first_difference(old: Any, new: Any, path: str = "") -> str:
    """The dotted path of the first value in which two settings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            if key not in old or key not in new or old[key] != new[key]:
                return first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    return path or "version"


@functools.cache  # a process has one of each, and asking takes as long as opening a run folder
def versions() -> dict[str, str]:
    """What the results depend on beside the config."""
    names = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "lop")
    found = {name: metadata.version(name) for name in names if _installed(name)}
    return {"python": sys.version.split()[0], "platform": platform.platform(), **found}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
