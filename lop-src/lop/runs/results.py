"""The run folder: resolved config, versions, tables for pandas, status. `load` reads many of them at once."""

from __future__ import annotations

import csv
import io
import json
import platform
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from lop.config import Config
from lop.utils.errors import UserError
from lop.utils.files import disk_errors, sync_file, write_text

SCHEMA = 1
TABLES = ("tasks", "layers", "online", "spectra", "events", "timing")


class Table:
    """A CSV file that only grows; cut back to a checkpoint's length when a run resumes.

    Numbers are written with all their digits.
    """

    def __init__(self, path: Path):
        self.path = path
        self.columns: list[str] = []
        self.length = 0  # bytes
        self._synced = 0

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add rows; the first ones fix the columns, and later ones must have no others."""
        if not rows:
            return
        buffer = io.StringIO()
        if not self.columns:
            self.columns = list(dict.fromkeys(name for row in rows for name in row))
            csv.writer(buffer, lineterminator="\n").writerow(self.columns)
        writer = csv.DictWriter(buffer, self.columns, restval="nan", lineterminator="\n")
        writer.writerows(rows)
        data = buffer.getvalue().encode()
        with disk_errors(self.path), open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.length)
            file.seek(self.length)
            file.write(data)
            file.flush()
        self.length += len(data)

    def sync(self) -> None:
        """Make all rows survive a power cut: a checkpoint is about to vouch for them."""
        if self.length > self._synced:
            sync_file(self.path)
            self._synced = self.length

    def state_dict(self) -> dict:
        return {"columns": list(self.columns), "length": self.length}

    def load_state_dict(self, state: dict) -> None:
        """Cut the file back to what was there at the checkpoint. Raises UserError when rows are missing."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < state["length"]:
            raise UserError(f"{self.path}: shorter than the checkpoint says; set run.resume=never to start again")
        self.columns, self.length = list(state["columns"]), state["length"]
        if size > self.length:
            with disk_errors(self.path), open(self.path, "r+b") as file:
                file.truncate(self.length)


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


@dataclass
class Results:
    """Tables over many runs; every row says which run it is of (columns run, benchmark, optimizer, algos, label, ...).

    tasks: a row per task; layers: per task, phase and layer; online: per bin of steps; spectra: per eigenvalue;
    events: divergences and diagnostics that could not be computed; timing: seconds, the only table that differs
    between two runs of the same config; runs: a row per run.
    """

    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    tasks: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    online: pd.DataFrame = field(default_factory=pd.DataFrame)
    spectra: pd.DataFrame = field(default_factory=pd.DataFrame)
    events: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=pd.DataFrame)

    def metrics(self, phase: str, run: str | None = None) -> list[dict[str, Any]]:
        """One dict per task: the diagnostics of a phase ("before" or "after"), per-layer lists under "layers"."""
        tasks, layers = self.tasks, self.layers
        if run is not None:
            tasks = tasks[tasks["run"] == run]
            layers = layers[layers["run"] == run] if len(layers) else layers
        suffix = f"_{phase}"
        found = []
        for _, row in tasks.iterrows():
            values = {name.removesuffix(suffix): row[name] for name in tasks.columns if name.endswith(suffix)}
            if len(layers):
                here = layers[(layers["task"] == row["task"]) & (layers["phase"] == phase)]
                here = here[here["run"] == row["run"]].sort_values("layer")
                described = {"task", "phase", "layer", *DESCRIPTION}
                values["layers"] = {n: here[n].tolist() for n in here.columns if n not in described}
            found.append({"task": int(row["task"]), **values})
        return found

    @property
    def metrics_before(self) -> list[dict[str, Any]]:
        return self.metrics("before")

    @property
    def metrics_after(self) -> list[dict[str, Any]]:
        return self.metrics("after")


DESCRIPTION = ("run", "benchmark", "optimizer", "algos", "label", "seed", "lr")


def describe(folder: Path) -> dict[str, Any]:
    """The columns that tell a run's rows from another's."""
    config = read_config(folder)
    algos = [algo.name for algo in config.algos if algo.name != "bp"]
    return {
        "run": folder.name,
        "benchmark": config.benchmark.name,
        "optimizer": config.optimizer.name,
        "algos": "+".join(algos),
        "label": config.label,
        "seed": config.run.seed,
        "lr": config.optimizer.options.get("lr"),
    }


def load(*paths: str | Path) -> Results:
    """The tables of run folders, or of all run folders below the given folders. Raises UserError if there are none."""
    folders = sorted({found.parent for path in paths for found in Path(path).rglob("config.json")})
    folders = [folder for folder in folders if not folder.name.startswith("old-")]
    if not folders:
        raise UserError(f"{', '.join(map(str, paths))}: no run folders here (a run folder holds a config.json)")
    results = Results()
    described = {folder: describe(folder) for folder in folders}
    results.runs = pd.DataFrame([{**described[f], **read_status(f), "folder": str(f)} for f in folders])
    for name in TABLES:
        parts = [_read(folder / f"{name}.csv", described[folder]) for folder in folders]
        parts = [part for part in parts if len(part)]
        if parts:
            setattr(results, name, pd.concat(parts, ignore_index=True))
    return results


def _read(path: Path, description: dict[str, Any]) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    table = pd.read_csv(path)
    return table.assign(**description)[[*description, *table.columns]]
