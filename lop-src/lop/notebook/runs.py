"""Training from a notebook: several methods, and what they gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lop.config import Config
from lop.notebook.beside import SideBySide, at_once, by_label
from lop.notebook.estimate import preview, time_limit
from lop.notebook.parameters import check_parameters
from lop.notebook.places import thin
from lop.notebook.tables import relabelled
from lop.plan import BENCHMARKS, by_path, make_config, members
from lop.runner import RunResult, run_population
from lop.runs import CHECKPOINTS, ENDED, Results, bring, load, read_status, run_folder_of
from lop.utils.errors import MissingDataError, UserError, lookup
from lop.utils.place import kaggle_folder, place

STOPPED = "Stopped cleanly ({}): run this notebook again to go on where it stopped."
LEAST = 1e-9  # hours


def run_all(
    configs: Sequence[Config], *, labels: Sequence[str] | None = None, summaries: bool = True
) -> list[RunResult]:
    """Method by method, its seeds side by side, with live progress, within one time limit for all.

    Where `lop.notebook.beside.at_once` says so, other methods are trained at the same time in other processes. The
    limit is `lop.notebook.estimate.time_limit`. Methods are what follows each other under one label. labels: what
    to call the runs meanwhile. summaries: show that of every task of the first run. Stops after a method that was
    interrupted: the next session goes on; on Kaggle it finds this one's output where that is attached as input.
    """
    labels = labels or [config.label for config in configs]
    if place() == "kaggle":
        for config, label in zip(configs, labels, strict=True):
            if config.run.resume != "never" and (found := bring_earlier(config, kaggle_folder("input"))):
                print(f"{label}: goes on from {found}")
    methods = by_label(configs, labels)
    for label, runs in methods:
        _say_ended(label, runs)
    limited = _sharing(time_limit(configs))
    done: dict[int, list[RunResult]] = {}
    reason, count = None, at_once(methods)
    with SideBySide(methods, count, limited) as turns:
        while reason is None and (turn := turns.take()) is not None:
            i, runs = turn
            progress, shown = turns.progress(i), summaries and i == 0
            done[i] = run_population(runs, progress, summaries=shown, share=1 / count)
            reason = next((result.reason for result in done[i] if result.status == "interrupted"), None)
        reason = turns.finish(stop=reason is not None) or reason
        done |= turns.found
    results = [result for i in sorted(done) for result in done[i]]
    stopped = [result.reason for result in results if result.status == "interrupted"]
    if len(done) < len(methods) or stopped:
        print(STOPPED.format(reason or next(iter(stopped), "time limit")))
    if place() == "kaggle":
        thin(results)
    return results


def _sharing(hours: float | None) -> Callable[[Sequence[Config]], Sequence[Config] | None]:
    """What gives runs the time that is left of so many hours, from now on; None where that is nothing.

    The first runs are begun whatever the limit, so that there is something to go on from.
    """
    if hours is None:
        return lambda runs: runs
    started, begun = time.monotonic(), False

    def limited(runs: Sequence[Config]) -> Sequence[Config] | None:
        nonlocal begun
        left = hours - (time.monotonic() - started) / 3600
        if left <= 0 and begun:
            return None
        begun, runs = True, [config.model_copy(deep=True) for config in runs]
        runs[0].run.time_limit_hours = max(left, LEAST)
        return runs

    return limited


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
