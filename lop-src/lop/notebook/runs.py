"""Training from a notebook: several runs one after the other, and what they gave."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from lop.config import Config
from lop.notebook.estimate import preview, time_limit
from lop.notebook.parameters import check_parameters
from lop.notebook.places import thin
from lop.notebook.tables import relabelled
from lop.plan import BENCHMARKS, by_path, make_config, members
from lop.runner import RunResult, run_population
from lop.runs import CHECKPOINTS, ENDED, Results, bring, load, read_status, run_folder_of
from lop.training.progress import Progress
from lop.utils.errors import MissingDataError, UserError, lookup
from lop.utils.place import kaggle_folder, place

STOPPED = "Stopped cleanly ({}): run this notebook again to go on where it stopped."
LEAST = 1e-9  # hours: the first runs are begun whatever the limit, so that there is something to go on from


def run_all(
    configs: Sequence[Config], *, labels: Sequence[str] | None = None, summaries: bool = True
) -> list[RunResult]:
    """One method after the other, its seeds side by side, with live progress, within one time limit for all.

    The limit is `lop.notebook.estimate.time_limit`. Methods are what follows each other under one label. labels: what
    to call the runs meanwhile. summaries: show that of every task of the first run. Stops after a method that was
    interrupted: the next session goes on; on Kaggle it finds this one's output where that is attached as input.
    """
    labels = labels or [config.label for config in configs]
    if place() == "kaggle":
        for config, label in zip(configs, labels, strict=True):
            if config.run.resume != "never" and (found := bring_earlier(config, kaggle_folder("input"))):
                print(f"{label}: goes on from {found}")
    limit, started = time_limit(configs), time.monotonic()
    results: list[RunResult] = []
    for i, (label, pairs) in enumerate(itertools.groupby(zip(labels, configs, strict=True), key=itemgetter(0))):
        members = [config for _, config in pairs]
        if limit is not None:
            left = limit - (time.monotonic() - started) / 3600
            if left <= 0 and results:
                print(STOPPED.format("time limit"))
                break
            members = [config.model_copy(deep=True) for config in members]
            members[0].run.time_limit_hours = max(left, LEAST)
        _say_ended(label, members)
        results += run_population(members, Progress(label), summaries=summaries and i == 0)
        stopped = [result for result in results if result.status == "interrupted"]
        if stopped:
            print(STOPPED.format(stopped[0].reason))
            break
    if place() == "kaggle":
        thin(results)
    return results


def _say_ended(label: str, configs: Sequence[Config]) -> None:
    """Which runs will not be trained again."""
    states = [read_status(run_folder_of(config)).get("state") for config in configs if config.run.resume != "never"]
    for state in ENDED:
        if count := states.count(state):
            which = "" if len(configs) == 1 else f"{count} of {len(configs)} "
            print(f"{label}: {which}{state} earlier, not trained again")


DEPTH = 6  # of folders below the input folder in which an earlier session's results are looked for


def bring_earlier(config: Config, attached: Path) -> Path | None:
    """Copy the furthest run folder of this experiment below `attached` into place, unless there is one already.

    Returns where it was found. `attached` is only read.
    """
    target = run_folder_of(config)
    if target.exists():
        return None
    hits = [hit for depth in range(DEPTH) for hit in attached.glob("*/" * depth + config.run_name())]
    if not (found := max(filter(None, map(_progress, hits)), default=None)):
        return None
    bring(found[-1], target)
    return found[-1]


def _progress(folder: Path) -> tuple[bool, int, float, Path] | None:
    """How far the run in a folder has come, to be compared; None: nothing there can be gone on from."""
    try:
        status = read_status(folder)
    except UserError:
        return None
    ended = status.get("state") in ENDED
    if not (folder / "config.json").exists() or not (ended or any((folder / name).exists() for name in CHECKPOINTS)):
        return None
    return ended, status.get("tasks_done", 0), folder.stat().st_mtime, folder


def load_all(results: Sequence[RunResult]) -> Results:
    """The tables of these runs; says so where none of them has finished a task yet."""
    tables = load(*(result.folder for result in results))
    if tables.tasks.empty:
        print("No task was finished yet: run again to go on, or give more time (time_limit_hours).")
    return tables


def run_methods(
    benchmark: str,
    methods: Sequence[str],
    *,
    seeds: int | str | Sequence[int] = (0,),
    overrides: dict[str, Any] | None = None,
    **settings: Any,
) -> Results:
    """Run configs that the benchmark ships, by file name without suffix, with every seed; the tables of all.

    In the tables that file name is the label: configs may differ in more than optimizer and interventions. Runs come
    in the order of `methods`. Prints what is trained, about how long that takes, and which data were used.

    seeds: `0-4` or a list. overrides: by dotted path. settings: as for `plan`. None means, in both: as in the config.
    Where data are missing, it prints the one line that says how to get them, and the tables are empty. Raises
    UserError for unknown names and impossible values.
    """
    check_parameters()
    folder = lookup(BENCHMARKS, benchmark, "benchmark").configs
    shipped = sorted(folder.iterdir()) if folder is not None else []
    files = {path.stem: path for path in shipped if path.suffix in (".json", ".yml")}
    paths = [lookup(files, method, f"config of {benchmark}") for method in methods]
    given = by_path(settings) | {path: value for path, value in (overrides or {}).items() if value is not None}
    named = {path.stem: members(make_config(path, overrides=given), seeds=seeds) for path in paths}
    configs = [config for several in named.values() for config in several]
    stems = [stem for stem, several in named.items() for _ in several]
    try:
        preview(configs, labels=stems)
        runs = run_all(configs, labels=stems, summaries=False)
        results = load_all(runs)
        return relabelled(results, {config.run_name(): stem for config, stem in zip(configs, stems, strict=True)})
    except MissingDataError as error:  # the one mistake that the notebook's text expects
        print(error)
        return Results()


PARAMETERS = (
    *("benchmark", "methods", "seeds", "num_tasks", "dataset", "overrides"),
    *("device", "threads", "results_dir", "data_dir", "time_limit_hours"),
)


def run_parameters(names: Mapping[str, Any]) -> Results:
    """`run_methods` with what a notebook's parameters cell says. names: the notebook's `globals()`.

    Of these the `PARAMETERS` are read, and handed on where they are there.
    """
    return run_methods(**{name: names[name] for name in PARAMETERS if name in names})
