"""The run folder: resolved config, versions, status, tables and checkpoint of one run."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lop.config import Config
from lop.runs.table import TABLES, Table
from lop.utils.errors import UserError
from lop.utils.files import disk_errors, write_text

SCHEMA = 1


class RunFolder:
    """One run's folder, locked for one process while it is open (a context manager).

    Raises UserError when another process holds it, when it cannot be written, or when it holds another
    experiment or another schema version.
    """

    def __init__(self, config: Config):
        self.config = config
        self.path = Path(config.run.results_dir) / config.run_name()
        self.tables = {name: Table(self.path / f"{name}.csv") for name in TABLES}
        self.checkpoint = self.path / "checkpoint.pt"
        self.figures = self.path / "figures"
        self._lock = FileLock(self.path / ".lock", timeout=0)

    def __enter__(self) -> RunFolder:
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            with disk_errors(self.path):
                self._lock.acquire()
        except Timeout:
            raise UserError(
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
        for left_by_a_kill in self.path.rglob("*.tmp"):
            left_by_a_kill.unlink(missing_ok=True)
        resume, exists = self.config.run.resume, self.checkpoint.exists()
        if resume == "require" and not exists:
            raise UserError(f"{self.path}: nothing to resume; run without run.resume=require")
        if resume == "never" and (self.path / "config.json").exists():
            self._set_aside()
        elif (self.path / "config.json").exists():
            self._check_same_experiment()
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
        old = read_config(self.path)
        named, old.run.name, new = self.config.run.name, None, self.config.model_copy(deep=True)
        new.run.name = None
        if named and old.run_name() != new.run_name():
            raise UserError(f"{self.path}: holds another experiment; choose another run.name or set run.resume=never")

    def _set_aside(self) -> None:
        """Keep what an earlier run left, under another name, so that starting again loses nothing."""
        number = 1
        while (aside := self.path / f"old-{number}").exists():
            number += 1
        with disk_errors(aside):
            aside.mkdir()
            items = [i for i in self.path.iterdir() if i.name != ".lock" and not i.name.startswith("old-")]
            # the config last: as long as it is there, a killed process's work is taken up again
            for item in sorted(items, key=lambda item: item.name == "config.json"):
                item.rename(aside / item.name)

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


def read_status(folder: Path) -> dict[str, Any]:
    """What `RunFolder.status` says; {} where there is none yet. Raises UserError for a damaged file."""
    path = folder / "status.json"
    try:
        status = json.loads(path.read_text())
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
        return Config.model_validate_json(path.read_bytes())
    except (OSError, ValueError):  # pydantic's errors are ValueErrors
        raise UserError(f"{path}: not a config of this version; move the folder away, or choose another") from None


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
