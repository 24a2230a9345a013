"""Diagnostics computed afterwards, from the weights that a run kept at its task boundaries (`run.keep_weights`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lop.config import Config
from lop.data.stream import Task
from lop.experiment import Experiment, build
from lop.metrics import METRICS
from lop.metrics.chosen import Extra
from lop.plan import BENCHMARKS
from lop.runs import Table, checkpoint, read_config
from lop.runs.records import phase_rows, scalar_columns
from lop.utils.errors import UserError
from lop.utils.ranges import whole_numbers


def analyze(folder: str | Path, *, extras: Sequence[str] = (), tasks: Sequence[int] | None = None) -> pd.DataFrame:
    """The core diagnostics and `extras`, before and after the given tasks (None: all that were kept).

    Writes `analysis_tasks.csv`, `analysis_layers.csv`, `analysis_spectra.csv` and `analysis_events.csv` into the
    run folder and returns the first. Everything is of the trained weights: shadow weights (EMA) are not kept.
    Diagnostics have the options that the run gave them.
    Raises UserError for a folder without kept weights, an unknown diagnostic, or tasks that were not kept.
    """
    folder = Path(folder)
    config = _config(folder, extras)
    kept = kept_tasks(folder)
    missing = sorted(set(tasks or ()) - set(kept))
    if missing:
        raise UserError(f"{folder}: task {missing[0]} was not kept; kept: {min(kept)}..{max(kept)}")
    experiment = build(config)
    tables = {name: _fresh_table(folder, name) for name in ("tasks", "layers", "spectra", "events")}
    for k in kept if tasks is None else sorted(set(tasks)):
        task, row = experiment.stream.task(k), {"task": k}
        for phase in ("before", "after"):
            values = _measure(experiment, folder, task, phase)
            row |= scalar_columns(values, phase)
            for name, rows in phase_rows(k, phase, values).items():
                tables[name].append(rows)
        tables["tasks"].append([row])
    return pd.read_csv(tables["tasks"].path)


def parse_tasks(text: str) -> list[int]:
    """`0,5,10-12` -> [0, 5, 10, 11, 12]. Raises UserError for anything else."""
    try:
        return whole_numbers(text)
    except ValueError as error:
        raise UserError(f"--tasks {text}: {error}") from None


def kept_tasks(folder: Path) -> list[int]:
    """Tasks whose weights were kept both before and after, in order. Raises UserError if there are none."""
    names = {path.name for path in (folder / "weights").glob("task*_*.pt")}
    kept = sorted(int(name[4:9]) for name in names if name.endswith("_after.pt"))
    kept = [k for k in kept if f"task{k:05d}_before.pt" in names]
    if not kept:
        raise UserError(f"{folder}: no kept weights; run it with --set run.keep_weights=true")
    return kept


def _config(folder: Path, extras: Sequence[str]) -> Config:
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: not a run folder (it holds no config.json)")
    config = read_config(folder)
    if BENCHMARKS[config.benchmark.name].kind == "control":
        raise UserError(f"{folder}: {config.benchmark.name} has no fixed reference inputs to analyze weights on")
    config.algos = []
    config.metrics["extras"] = _as_the_run(extras, config.metrics.get("extras", []))
    return config


def _as_the_run(names: Sequence[str], extras: list[Extra]) -> list[Extra]:
    """Diagnostics with the options that the run gave them; its own where none are named."""
    given = {extra["name"]: extra for extra in extras if not isinstance(extra, str)}
    core = [name for name in given if METRICS[name].core]
    return [given.get(name, name) for name in dict.fromkeys([*core, *names])] if names else extras


def _fresh_table(folder: Path, name: str) -> Table:
    path = folder / f"analysis_{name}.csv"
    path.unlink(missing_ok=True)
    return Table(path)


def _measure(experiment: Experiment, folder: Path, task: Task, phase: str) -> dict:
    learner = experiment.learner
    saved = checkpoint.load(folder / "weights" / f"task{task.index:05d}_{phase}.pt", learner.device)
    learner.net.load_state_dict(saved["net"])
    learner.set_task(task)
    return experiment.dashboard.before(task) if phase == "before" else experiment.dashboard.after(task)
