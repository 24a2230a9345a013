"""The tables of many run folders at once, for pandas. What is not a run's is named and left out."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from lop.config import method_label
from lop.runs.labels import compose, differing
from lop.runs.place import ASIDE
from lop.runs.table import TABLES
from lop.utils.errors import UserError
from lop.utils.files import read_regular

KEY = b"task"  # the first column of every table
TEXTS = ("phase", "name", "what", "detail", "session")  # columns of words; all others are of numbers
DESCRIPTION = ("run", "benchmark", "optimizer", "algos", "label", "method", "settings", "seed", "lr")


@dataclass
class Results:
    """Tables over many runs; every row says which run it is of (columns run, benchmark, optimizer, algos, label, ...).

    tasks: a row per task; layers: per task, phase and layer; online: per bin of steps; spectra: per eigenvalue;
    events: divergences and diagnostics that could not be computed; timing: seconds, the only table that differs
    between two runs of the same config; runs: a row per run. skipped: what was left out, and why, by its path.
    """

    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    tasks: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    online: pd.DataFrame = field(default_factory=pd.DataFrame)
    spectra: pd.DataFrame = field(default_factory=pd.DataFrame)
    events: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=pd.DataFrame)
    skipped: dict[str, str] = field(default_factory=dict)

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
                described = {"task", "phase", "layer", "name", *DESCRIPTION}
                values["layers"] = {n: here[n].tolist() for n in here.columns if n not in described}
            found.append({"task": int(row["task"]), **values})
        return found

    @property
    def metrics_before(self) -> list[dict[str, Any]]:
        return self.metrics("before")

    @property
    def metrics_after(self) -> list[dict[str, Any]]:
        return self.metrics("after")


class _UnreadableError(Exception):
    """Why a file or folder is left out."""


def describe(configs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The columns that tell a run's rows from others', by run folder, from its resolved config as it was written.

    method: optimizer and interventions; settings: the keys in which these runs of the method differ, as JSON; label:
    both in short. Runs that differ in no more than the seed have one label.
    """
    settings, described = differing(configs), {}
    for folder, data in configs.items():
        algos = [algo["name"] for algo in data["algos"] if algo["name"] != "bp"]
        method = method_label(data["optimizer"]["name"], algos)
        described[folder] = {
            "run": os.path.basename(os.path.abspath(folder)),
            "benchmark": data["benchmark"]["name"],
            "optimizer": data["optimizer"]["name"],
            "algos": "+".join(algos),
            "label": compose(method, settings[folder]),
            "method": method,
            "settings": json.dumps(settings[folder]),
            "seed": data["run"]["seed"],
            "lr": data["optimizer"].get("lr"),
        }
    return described


def _config(folder: str) -> dict[str, Any]:
    """What `describe` needs is there; the config is not checked again: 2,000 runs are read in seconds."""
    try:
        data = json.loads(_bytes(os.path.join(folder, "config.json")))
        names = [data[part]["name"] for part in ("benchmark", "net", "optimizer")]
        names += [algo["name"] for algo in data["algos"]]
        if all(isinstance(name, str) for name in names) and isinstance(data["run"]["seed"], int):
            data["run"] = {"seed": data["run"]["seed"], "on_divergence": data["run"]["on_divergence"]}
            return data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise _UnreadableError("not the config of a run")


def load(*paths: str | Path, tables: Sequence[str] = TABLES) -> Results:
    """The tables of run folders, or of all run folders below the given folders; only those named in `tables`.

    A config or table that is not a run's is left out: a warning line names it, and so does `skipped`. Of a table that
    was cut in the middle of a row, the whole rows are read. Links to folders are not followed.
    Raises UserError if there is no run at all.
    """
    skipped: dict[str, str] = {}
    configs: dict[str, dict[str, Any]] = {}
    for folder in sorted({folder for path in paths for folder in _folders(os.path.expanduser(path), skipped)}):
        try:
            configs[folder] = _config(folder)
        except _UnreadableError as error:
            skipped[os.path.join(folder, "config.json")] = str(error)
    described = describe(configs)
    runs = [{**described[folder], **_status(folder, skipped), "folder": folder} for folder in described]
    results = Results(runs=pd.DataFrame(runs), skipped=skipped)
    if described:
        for name in tables:
            setattr(results, name, _read_all(name, described, skipped))
    for path, reason in skipped.items():
        print(f"warning: {path}: left out, {reason}", file=sys.stderr)
    if not described:
        seen = "".join(f"; {path}: {reason}" for path, reason in list(skipped.items())[:1])
        raise UserError(f"{', '.join(map(str, paths))}: no run folders here (a run folder holds a config.json){seen}")
    return results


def _folders(top: str, skipped: dict[str, str]) -> Iterator[str]:
    """All folders with a config.json, but not what a run set aside when it began anew, its weights, hidden ones."""

    def unreadable(error: OSError) -> None:
        if error.filename != top or os.path.lexists(top):
            skipped[error.filename] = error.strerror or str(error)

    for folder, below, files in os.walk(top, onerror=unreadable):
        if "config.json" in files:
            below[:] = [name for name in below if not name.startswith(ASIDE) and name != "weights"]
            yield folder
        below[:] = [name for name in below if not name.startswith(".")]  # half a copy of a run; no run's name


def _bytes(path: str) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise _UnreadableError(error.strerror) from None


def _status(folder: str, skipped: dict[str, str]) -> dict[str, Any]:
    path = os.path.join(folder, "status.json")
    if not os.path.lexists(path):
        return {}
    try:
        status = json.loads(_bytes(path))
        if isinstance(status, dict):
            return status
        reason = "not the status of a run"
    except (ValueError, RecursionError):
        reason = "not the status of a run"
    except _UnreadableError as error:
        reason = str(error)
    skipped[path] = reason
    return {}


def _read_all(name: str, described: dict[str, dict[str, Any]], skipped: dict[str, str]) -> pd.DataFrame:
    """One table of all runs. Texts with the same header are joined and parsed as one: parsing many is slow."""
    groups: dict[bytes, list[tuple[int, bytes, int]]] = {}
    for number, folder in enumerate(described):
        path = os.path.join(folder, f"{name}.csv")
        if not os.path.lexists(path):
            continue
        try:
            header, body, rows = _whole_rows(_bytes(path))
        except _UnreadableError as error:
            skipped[path] = str(error)
            continue
        if rows:
            groups.setdefault(header, []).append((number, body, rows))
    parts, owners = [], []
    folders = list(described)
    for header, members in groups.items():
        parsed, members = _parsed(header, members, [os.path.join(f, f"{name}.csv") for f in folders], skipped)
        if not members:
            continue
        parts.append(parsed)
        owners.append(np.repeat([number for number, _, _ in members], [rows for _, _, rows in members]))
    if not parts:
        return pd.DataFrame()
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    table = pd.concat(parts, ignore_index=True).iloc[order].reset_index(drop=True)
    columns = {key: pd.Series([described[f][key] for f in folders]).iloc[owner[order]].array for key in DESCRIPTION}
    kept = table[[column for column in table.columns if column not in DESCRIPTION]]
    return pd.concat([pd.DataFrame(columns), kept], axis=1)


def _parsed(
    header: bytes, members: list[tuple[int, bytes, int]], paths: list[str], skipped: dict[str, str]
) -> tuple[pd.DataFrame, list[tuple[int, bytes, int]]]:
    """The texts of members (number, text, rows) as one table, and the members that are in it.

    A text where a number belongs makes a whole column one of texts: then the texts are looked at one by one.
    """
    table = _table(header, [body for _, body, _ in members])
    if not _words(table):
        return table, members
    kept = []
    for member in members:
        if found := _words(_table(header, [member[1]])):
            skipped[paths[member[0]]] = f"not a number in the column {found[0]}"
        else:
            kept.append(member)
    return _table(header, [body for _, body, _ in kept]), kept


def _table(header: bytes, bodies: Iterable[bytes]) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(b"".join([header, *bodies])), low_memory=False)


def _words(table: pd.DataFrame) -> list[str]:
    """Columns in which something is not the number that it should be."""
    wrong = [name for name in table.columns if name not in TEXTS and not is_numeric_dtype(table[name])]
    return wrong if wrong or is_integer_dtype(table[KEY.decode()]) else [KEY.decode()]


def _whole_rows(data: bytes) -> tuple[bytes, bytes, int]:
    """(header, whole rows, their number). Raises _UnreadableError for what is not a table of ours."""
    end = data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:  # a newline in the middle of a quoted text
        end = data.rfind(b"\n", 0, end - 1) + 1
    start = data.find(b"\n") + 1
    if not end:
        raise _UnreadableError("it holds no whole line")
    header, body = data[:start], data[start:end]
    columns = header[:-1].split(b",")
    if columns[0] != KEY or len(set(columns)) != len(columns) or b"\0" in data:
        raise _UnreadableError("not a table of a run")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _UnreadableError("not a table of a run") from None
    if b'"' not in body:
        rows = body.count(b"\n")
        lengths = {line.count(",") + 1 for line in text.split("\n")[:-1]}
    else:
        lines = list(csv.reader(io.StringIO(text, newline="")))
        rows, lengths = len(lines), {len(line) for line in lines}
    if lengths - {len(columns)}:
        raise _UnreadableError("its rows have not as many values as its header has names")
    return header, body, rows
