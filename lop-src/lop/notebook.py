"""What the notebooks share: where they run, the configs that their parameters mean, and a table of results."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import yaml

from lop.config import Config, Section, parse_override
from lop.experiment import make_config
from lop.progress import Progress
from lop.results import Results, load
from lop.run import RunResult, run
from lop.streams import BENCHMARKS
from lop.utils.errors import UserError
from lop.viz import run_scores
from lop.viz.style import prepared

KAGGLE_INPUT = "/kaggle/input"
KAGGLE_RESULTS = "/kaggle/working/results"


def place() -> str:
    """`kaggle`, `colab` or `local`."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    return "colab" if "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules else "local"


def plan(
    *,
    optimizer: str | None = None,
    benchmark: str | None = None,
    algos: Sequence[str | dict[str, Any]] | str = (),
    config: str | None = None,
    baseline: bool = True,
    lr: float | None = None,
    overrides: dict[str, Any] | str | None = None,
    **settings: Any,
) -> list[Config]:
    """The run that a notebook's parameters describe and, with `baseline`, the plain one on the same tasks and steps.

    Plain is SGD (RL: Adam) without interventions, with the benchmark's settings for it.

    config: path of a config file; its values hold wherever no parameter is given. Without one, the default is Sassha
    on `permuted_digits`. algos: names or sections, or names separated by commas. overrides: by dotted path, or
    `a.b=1, c.d=2`. settings: num_tasks and dataset of the benchmark, and any key of the config's `run`; None means:
    as in the config. Raises UserError for anything that cannot run.
    """
    if config is None:
        optimizer, benchmark = optimizer or "sassha", benchmark or "permuted_digits"
    if place() == "kaggle":
        settings["results_dir"] = settings.get("results_dir") or KAGGLE_RESULTS
        settings["data_dir"] = settings.get("data_dir") or KAGGLE_INPUT
    shared = {}
    for name, value in settings.items():
        if value is not None:
            shared[f"benchmark.{name}" if name in ("num_tasks", "dataset") else f"run.{name}"] = value
    given = _overrides(overrides)
    own = {**shared, **({} if lr is None else {"optimizer.lr": lr}), **given}
    chosen = make_config(config, benchmark=benchmark, optimizer=optimizer, algos=_sections(algos), overrides=own)
    if not baseline:
        return [chosen]
    method = ("optimizer", "algos")
    same = {key: value for key, value in {**shared, **given}.items() if key.split(".")[0] not in method}
    standard = BENCHMARKS[chosen.benchmark.name].optimizer
    plain = make_config(config, benchmark=benchmark, optimizer=standard, algos=[], overrides=same)
    return [chosen] if plain.run_name() == chosen.run_name() else [chosen, plain]


def describe(config: Config) -> str:
    """What a config says about the learner and its tasks, a line per part."""

    def line(part: str, section: Section) -> str:
        options = ", ".join(
            f"{key} {value}" for key, value in section.options.items() if value is not None and value is not False
        )
        return f"{part}: {section.name}" + (f" ({options})" if options else "")

    parts = [("benchmark", config.benchmark), ("net", config.net), ("optimizer", config.optimizer)]
    return "\n".join(line(*part) for part in [*parts, *(("algo", algo) for algo in config.algos)])


def _sections(algos: Sequence[str | dict[str, Any]] | str) -> list[dict[str, Any]] | None:
    if isinstance(algos, str):
        algos = yaml.safe_load(algos) if algos.lstrip().startswith("[") else algos.split(",")
    sections = [{"name": algo.strip()} if isinstance(algo, str) else algo for algo in algos if algo]
    return sections or None


def _overrides(given: dict[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(given, str):
        return dict(parse_override(item) for item in re.split(r",\s*(?=[\w.]+=)", given) if item.strip())
    return dict(given or {})


def run_all(configs: Sequence[Config]) -> list[RunResult]:
    """One run after the other, with live progress, within one time limit for all (the first config's).

    Prints the summary of every task of the first. Stops after a run that was interrupted: the next session goes on.
    """
    limit, started = configs[0].run.time_limit_hours, time.monotonic()
    results = []
    for i, config in enumerate(configs):
        if limit is not None:
            left = limit - (time.monotonic() - started) / 3600
            if left <= 0:
                break
            config = config.model_copy(deep=True)
            config.run.time_limit_hours = left
        results.append(run(config, Progress(config.label), summaries=i == 0))
        if results[-1].status == "interrupted":
            print(f"Stopped cleanly ({results[-1].reason}): run this notebook again to go on where it stopped.")
            break
    return results


def load_all(results: Sequence[RunResult]) -> Results:
    """The tables of these runs. Raises UserError when none of them has finished a task yet."""
    tables = load(*(result.folder for result in results))
    if tables.tasks.empty:
        raise UserError("no task was finished; run again to go on, or give more time (time_limit_hours)")
    return tables


def comparison(results: Results, baseline: str = "sgd") -> pd.DataFrame:
    """One row per label: performance and, next to it, what it cost. Means over seeds.

    Seconds per task leave out the diagnostics. The cost is a multiple of the baseline's, where that label is there.
    """
    scores = run_scores(results.tasks).groupby("label", sort=False).mean(numeric_only=True)
    timing = prepared(results.timing, ["seconds", "diagnostics_seconds"])
    timing = timing.assign(seconds=timing["seconds"] - timing["diagnostics_seconds"])
    seconds = timing.groupby("label")["seconds"].mean()
    table = pd.DataFrame(
        {
            "average, all tasks": scores["average"],
            "first tasks": scores["early"],
            "last tasks": scores["late"],
            "change": scores["plasticity"],
            "test, last tasks": scores["final"],
            "seconds per task": seconds,
        }
    ).loc[scores.index]
    if table["test, last tasks"].equals(table["last tasks"]):  # no test accuracy here
        table = table.drop(columns="test, last tasks")
    if baseline in seconds.index:
        table[f"cost ({baseline} = 1)"] = seconds / seconds[baseline]
    return table.rename_axis(None).round(3)
