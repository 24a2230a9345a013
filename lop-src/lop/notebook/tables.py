"""Tables that the notebooks show, and the parts of `Results` that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lop.metrics import format_summary
from lop.notebook.cost import costs as side_by_side
from lop.runs import Results, read_config
from lop.runs.labels import without
from lop.training.online import scores
from lop.utils.errors import UserError
from lop.viz import markdown_table, summary_table
from lop.viz.measures import final_measure, measure_of
from lop.viz.style import prepared


def summary(results: Results, baseline: str = "sgd", costs: pd.DataFrame | None = None) -> Any:
    """`lop.viz.summary_table` as Markdown to display, in the order of the runs, and below it what its columns mean.

    Without the final performance where that is the late one. costs: default: `lop.notebook.cost.costs`. Raises
    UserError where there is nothing to compare.
    """
    from IPython.display import Markdown

    costs = side_by_side(results, baseline) if costs is None else costs
    table = summary_table(results, baseline=baseline, costs=costs)
    table = table.loc[list(dict.fromkeys(results.tasks["label"]))] if "label" in results.tasks else table
    if table["final"].equals(table["late"]):  # nothing but online performance is measured here
        table = table.drop(columns="final")
    order = ["seeds", "tasks", "mean", "early", "late", "change", "low", "high", "worst", "final", "seconds", "cost"]
    shown = table[[name for name in ["measure", *order, "comparable"] if name in table]]
    lines = markdown_table(shown).split("\n")
    names = headings(table, results, baseline)
    lines[0] = "| " + " | ".join(names.get(name, name) for name in lines[0].strip("| ").split(" | ")) + " |"
    return Markdown("\n".join(lines) + f"\n\n{explained(table, results, baseline)}")


def headings(table: pd.DataFrame, results: Results, baseline: str) -> dict[str, str]:
    """What the columns of a summary are called: by what they measure."""
    measure, final = measure_of(table["measure"].iloc[0]), final_measure(prepared(results.tasks, ["task"]))
    return {
        "label": "method",
        "mean": measure.label.lower(),
        "worst": "worst task",
        "final": f"final {final.label.lower()}",
        "seconds": "seconds per task",
        "cost": f"cost ({baseline} = 1)",
    }


def explained(table: pd.DataFrame, results: Results, baseline: str) -> str:
    """What the columns of a summary mean, in a few words: one text for all notebooks."""
    measure, final = measure_of(table["measure"].iloc[0]), final_measure(prepared(results.tasks, ["task"]))
    worse = "below" if measure.higher_is_better else "above"
    parts = [
        f"{measure.label}: mean over the *tasks* that all runs have finished, of those that a method's own runs have",
        f"*early* and *late*: the first and the last fifth of them ({table['windows'].iloc[0]})",
        f"*change*: late minus early{', in percentage points' if measure.unit else ''}; {worse} zero is lost plasticity"
        " where all tasks are equally hard"
        + ("; in brackets its 95% bootstrap interval over seeds" if table["low"].notna().any() else ""),
    ]
    if "final" in table:
        parts.append(f"*final {final.label.lower()}*: after the late tasks")
    parts.append("*seconds per task*: of training, without the diagnostics")
    if "cost" in table:
        parts.append(
            f"*cost*: training time as a multiple of that of {baseline}; where the runs were not timed together, of "
            "plain steps timed side by side"
        )
        if not table["comparable"].all():
            parts.append("~: not timed in one session under one load")
    return ".\n".join(parts) + "."


PERFORMANCE = ("online_accuracy", "online_return", "online_loss", "test_acc_after")


def by_task(results: Results, columns: Sequence[str] = PERFORMANCE) -> pd.DataFrame:
    """A row per task, a column per measure and label, means over seeds, as text; measures that no run has are left out.

    Raises UserError when no task was finished.
    """
    tasks = prepared(results.tasks, ["task"])
    measured = [name for name in columns if name in tasks and tasks[name].notna().any()]
    means = tasks.groupby(["task", "label"], sort=False)[measured].mean().unstack("label").sort_index()
    shown = means.apply(lambda values: values.map(measure_of(values.name[0]).text))
    return shown.rename(columns={name: measure_of(name).label for name in measured}, level=0)


ENDS = ("_before", "_after")


def summaries(results: Results) -> list[tuple[str, str]]:
    """(title, the printed summary of every finished task) of each method's first run, where diagnostics were taken."""
    found = []
    tasks = results.tasks if len(results.tasks) else pd.DataFrame({"label": []})
    for label, runs in tasks.groupby("label", sort=False):
        one = runs[runs["run"] == runs["run"].iloc[0]].sort_values("task")
        if "avg_weight_mag_before" not in one:
            continue
        texts = []
        for row in one.to_dict("records"):
            before, after = ({name.removesuffix(end): row[name] for name in row if name.endswith(end)} for end in ENDS)
            texts.append(format_summary(row["task"], before, after, scores(row)))
        found.append((f"Task summaries of {label}, seed {one['seed'].iloc[0]}", "\n".join(texts)))
    return found


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
