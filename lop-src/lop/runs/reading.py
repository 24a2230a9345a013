"""The tables of many run folders at once, for pandas."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lop.runs.folder import read_config, read_status
from lop.runs.labels import compose, differing
from lop.runs.table import TABLES
from lop.utils.errors import UserError


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


DESCRIPTION = ("run", "benchmark", "optimizer", "algos", "label", "method", "settings", "seed", "lr")


def describe(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """The columns that tell a run's rows from others', by run folder.

    method: optimizer and interventions; settings: the keys in which these runs of the method differ, as JSON; label:
    both in short. Runs that differ in no more than the seed have one label.
    """
    configs = {folder: read_config(folder) for folder in folders}
    settings = differing(configs)
    return {
        folder: {
            "run": folder.name,
            "benchmark": config.benchmark.name,
            "optimizer": config.optimizer.name,
            "algos": "+".join(algo.name for algo in config.algos if algo.name != "bp"),
            "label": compose(config.label, settings[folder]),
            "method": config.label,
            "settings": json.dumps(settings[folder]),
            "seed": config.run.seed,
            "lr": config.optimizer.options.get("lr"),
        }
        for folder, config in configs.items()
    }


def load(*paths: str | Path) -> Results:
    """The tables of run folders, or of all run folders below the given folders. Raises UserError if there are none."""
    folders = sorted({found.parent for path in paths for found in Path(path).rglob("config.json")})
    folders = [folder for folder in folders if not folder.name.startswith("old-")]
    if not folders:
        raise UserError(f"{', '.join(map(str, paths))}: no run folders here (a run folder holds a config.json)")
    results = Results()
    described = describe(folders)
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
