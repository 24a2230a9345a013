"""Tables that the notebooks show, and the parts of `Results` that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lop.runs import Results, read_config
from lop.runs.labels import without
from lop.utils.errors import UserError
from lop.viz import markdown_table, summary_table
from lop.viz.compare import final_measure
from lop.viz.style import prepared


def summary(results: Results, baseline: str = "sgd") -> Any:
    """`lop.viz.summary_table` as Markdown to display; without the final performance where that is the late one."""
    from IPython.display import Markdown

    table = summary_table(results, baseline=baseline)
    if table["final"].equals(table["late"]):
        table = table.drop(columns="final")
    return Markdown(markdown_table(table))


PERFORMANCE = ("online_accuracy", "online_return", "online_loss", "test_acc_after")


def by_task(results: Results, columns: Sequence[str] = PERFORMANCE) -> pd.DataFrame:
    """A row per task, a column per measure and label, means over seeds; measures that no run has are left out.

    Raises UserError when no task was finished.
    """
    tasks = prepared(results.tasks, ["task"])
    measured = [name for name in columns if name in tasks and tasks[name].notna().any()]
    means = tasks.groupby(["task", "label"], sort=False)[measured].mean().unstack("label")
    return means.sort_index().round(3)


def comparison(results: Results, baseline: str = "sgd") -> pd.DataFrame:
    """One row per label: performance and, next to it, what it cost. Means over seeds.

    tasks and windows say over which tasks: those that all runs have finished. Seconds per task leave out the
    diagnostics. The cost is a multiple of the baseline's, where that label is there; with a ~ where the two were not
    timed in one session under one load.
    """
    tasks = prepared(results.tasks, ["task"])
    final = f"{final_measure(tasks)[1].lower()}, last tasks"
    whole = summary_table(results, baseline=baseline).loc[list(dict.fromkeys(tasks["label"]))]
    names = {"mean": "mean", "early": "early", "late": "late", "change": "change", "final": final}
    table = whole[["tasks", "windows", *names]].rename(columns=names)
    if table[final].equals(table["late"]):  # nothing but online performance is measured here
        table = table.drop(columns=final)
    table["seconds per task"] = whole["seconds"]
    if "cost" in whole:
        marks = ["" if known else "~" for known in whole["comparable"]]
        cost = [f"{mark}{value:.2f}" for mark, value in zip(marks, whole["cost"], strict=True)]
        table[f"cost ({baseline} = 1)"] = cost
    return table.rename_axis(None).round(3)


def option(runs: pd.DataFrame, path: str) -> pd.Series:
    """The value of a config key, by its dotted path (`optimizer.lr`), in every run of `Results.runs`; by run name.

    Raises UserError when no run has the key.
    """
    values = {}
    for run_name, folder in zip(runs["run"], runs["folder"], strict=True):
        node: Any = read_config(Path(folder)).model_dump(mode="json")
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        values[run_name] = node
    if all(value is None for value in values.values()):
        raise UserError(f"{path}: no run has this key in its config")
    return pd.Series(values, name=path)


def only(results: Results, runs: Iterable[str]) -> Results:
    """The rows of these runs, by name, in every table."""
    wanted = set(runs)
    return _each_table(results, lambda table: table[table["run"].isin(wanted)].reset_index(drop=True))


def unswept(results: Results, path: str) -> Results:
    """With labels that do not tell values of one config key apart, in every table: for runs of each method's best."""
    return _each_table(results, lambda table: without(table, path))


def hard_tasks(results: Results) -> Results:
    """Of five-plus-one runs the rows of the hard tasks, which have even numbers, in every table of tasks."""
    return _each_table(results, lambda table: table[table["task"] % 2 == 0] if "task" in table else table)


def relabelled(results: Results, labels: dict[str, str]) -> Results:
    """With another label for each run, given by run name; rows come in the order of `labels`."""
    place = {name: i for i, name in enumerate(labels)}

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.sort_values("run", key=lambda names: names.map(place), kind="stable", ignore_index=True)
        return table.assign(label=table["run"].map(labels))

    return _each_table(results, change)


def _each_table(results: Results, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Results:
    tables = {field.name: getattr(results, field.name) for field in fields(results)}
    return Results(**{name: change(table) if len(table) else table for name, table in tables.items()})
