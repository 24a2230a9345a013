"""Training from a notebook: several runs one after the other, and what they gave."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lop.config import Config
from lop.notebook.parameters import check_parameters
from lop.notebook.tables import relabelled
from lop.plan import BENCHMARKS, by_path, make_config
from lop.runner import RunResult, run
from lop.runs import CHECKPOINTS, ENDED, Results, bring, load, read_status, run_folder_of
from lop.training.progress import Progress
from lop.utils.errors import MissingDataError, UserError, lookup
from lop.utils.place import kaggle_folder, place


def run_all(
    configs: Sequence[Config], *, labels: Sequence[str] | None = None, summaries: bool = True
) -> list[RunResult]:
    """One run after the other, with live progress, within one time limit for all (the first config's).

    labels: what to call the runs meanwhile. summaries: print that of every task of the first run. Stops after a run
    that was interrupted: the next session goes on; on Kaggle it finds this one's output where that is attached as
    input.
    """
    labels = labels or [config.label for config in configs]
    if place() == "kaggle":
        for config, label in zip(configs, labels, strict=True):
            if config.run.resume != "never" and (found := bring_earlier(config, kaggle_folder("input"))):
                print(f"{label}: goes on from {found}")
    limit, started = configs[0].run.time_limit_hours, time.monotonic()
    results = []
    for i, (config, label) in enumerate(zip(configs, labels, strict=True)):
        if limit is not None:
            left = limit - (time.monotonic() - started) / 3600
            if left <= 0:
                break
            config = config.model_copy(deep=True)
            config.run.time_limit_hours = left
        earlier = read_status(run_folder_of(config)).get("state")
        if earlier in ENDED and config.run.resume != "never":
            print(f"{label}: {earlier} earlier, not trained again")
        results.append(run(config, Progress(label), summaries=summaries and i == 0))
        if results[-1].status == "interrupted":
            print(f"Stopped cleanly ({results[-1].reason}): run this notebook again to go on where it stopped.")
            break
    return results


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
    seeds: Sequence[int] = (0,),
    overrides: dict[str, Any] | None = None,
    **settings: Any,
) -> Results:
    """Run configs that the benchmark ships, by file name without suffix, with every seed; the tables of all.

    In the tables that file name is the label: configs may differ in more than optimizer and interventions. Runs come
    in the order of `methods`. Prints which data were used.

    overrides: by dotted path. settings: as for `plan`. None means, in both: as in the config. Where data are missing,
    it prints the one line that says how to get them, and the tables are empty. Raises UserError for unknown names and
    impossible values.
    """
    check_parameters()
    folder = lookup(BENCHMARKS, benchmark, "benchmark").configs
    shipped = sorted(folder.iterdir()) if folder is not None else []
    files = {path.stem: path for path in shipped if path.suffix in (".json", ".yml")}
    paths = [lookup(files, method, f"config of {benchmark}") for method in methods]
    given = by_path(settings) | {path: value for path, value in (overrides or {}).items() if value is not None}
    configs = [make_config(path, overrides={**given, "run.seed": seed}) for seed in seeds for path in paths]
    stems = [path.stem for path in paths] * len(seeds)
    shown = [f"{stem}, seed {config.run.seed}" for config, stem in zip(configs, stems, strict=True)]
    try:
        runs = run_all(configs, labels=shown if len(seeds) > 1 else stems, summaries=False)
        results = load_all(runs)
        print("Data:", *dict.fromkeys(results.runs["data"]))
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
