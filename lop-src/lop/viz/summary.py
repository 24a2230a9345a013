"""Tables over many runs: performance with intervals, cost, sensitivity to a setting, what moved first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lop.runs import Results
from lop.runs.labels import without
from lop.runs.statistics import mean_interval
from lop.utils.errors import UserError
from lop.viz.compare import common_tasks, compared_tasks, run_scores, seed_scores
from lop.viz.diagnostics import present_metrics
from lop.viz.measures import Measure, measure_of, performance
from lop.viz.style import prepared


def seconds_per_task(timing: pd.DataFrame) -> pd.Series:
    """Mean training seconds per task by label, diagnostics left out."""
    timing = prepared(timing, ["seconds", "diagnostics_seconds"])
    training = timing["seconds"] - timing["diagnostics_seconds"]
    return training.groupby(timing["label"], sort=False).mean()


MOST_LOAD = 0.25  # difference in running processes per core up to which two timings can be compared


def relative_cost(timing: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Training seconds as a multiple of the baseline's, by label. Columns: cost, comparable.

    Timings of one session (process) on one machine under one load can be compared: where a label and the baseline
    share sessions, only these count. comparable: whether they do, and the machine was about equally busy; other
    ratios say little, since another day's load alone can make them three times larger.
    """
    timing = prepared(timing, ["seconds", "diagnostics_seconds"])
    timing["training"] = timing["seconds"] - timing["diagnostics_seconds"]
    if "session" not in timing:
        timing["session"] = np.nan
    rows = {}
    plain = timing[timing["label"] == baseline]
    for label, one in timing.groupby("label", sort=False):
        shared = set(one["session"].dropna()) & set(plain["session"].dropna())
        ours, theirs = (part[part["session"].isin(shared)] if shared else part for part in (one, plain))
        same_load = "load" not in timing or not abs(ours["load"].mean() - theirs["load"].mean()) > MOST_LOAD
        rows[label] = {
            "cost": ours["training"].mean() / theirs["training"].mean(),
            "comparable": label == baseline or (bool(shared) and same_load),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def summary_table(
    results: Results, *, baseline: str = "sgd", window: int | None = None, costs: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per label: performance and, next to it, what it cost.

    Columns: measure (the column of the task table that performance is of; shares are fractions here, and percent where
    the table is written out); seeds (distinct ones; runs of one seed are averaged); tasks, windows: over which tasks,
    the same for all labels, and which are early and late; mean, final, early, late (means over seeds, as in
    `run_scores`); worst (the worst task, mean over seeds; for losses the highest); change = late - early with low, high
    (95% bootstrap over seeds); seconds per task without diagnostics; cost, as a multiple of the baseline's where that
    label is there, and comparable, see `relative_cost`.

    costs: what to take for these two columns; default: what the runs' own timings say.
    """
    tasks = prepared(results.tasks, ["task"])
    measure = performance(tasks)
    spans, windows = compared_tasks(tasks, window)
    scores = seed_scores(run_scores(tasks, window))
    inside = common_tasks(tasks).groupby(["label", "seed", "task"])[measure.column].mean().groupby(["label", "seed"])
    worst = inside.min() if measure.higher_is_better else inside.max()
    seconds = seconds_per_task(results.timing)
    rows = []
    for label, one in scores.groupby("label", sort=False):
        change = mean_interval(one["change"])
        row = {"label": label, "measure": measure.column, "seeds": len(one), "tasks": spans[label], "windows": windows}
        row |= {**one[["mean", "final"]].mean(), "worst": worst[label].mean()}
        row |= {**one[["early", "late"]].mean(), "change": change.value, "low": change.low, "high": change.high}
        rows.append(row | {"seconds": seconds[label]})
    table = pd.DataFrame(rows).set_index("label")
    if baseline in table.index:
        table = table.join(relative_cost(results.timing, baseline) if costs is None else costs)
    return table.sort_values("mean", ascending=not measure.higher_is_better, kind="stable")


def sensitivity_table(tasks: pd.DataFrame, values: pd.Series, *, measure: str = "mean") -> pd.DataFrame:
    """Performance over the values of a swept setting, one row per optimizer (with interventions) and value.

    values: the setting's value by run, e.g. `lop.notebook.tables.option(results.runs, "optimizer.lr")`. measure: a
    column of `run_scores`. Columns: label, value, mean, error (standard error over seeds), seeds. Raises UserError
    where no label has two values.
    """
    plain = without(tasks, str(values.name)).drop(columns="lr", errors="ignore")  # labels do not tell values apart
    scores = run_scores(plain)
    scores["value"] = scores["run"].map(values)
    scores = scores.dropna(subset=["value"])
    scores = scores.groupby(["label", "value", "seed"], sort=False, as_index=False).mean(numeric_only=True)
    grouped = scores.groupby(["label", "value"], sort=False)[measure]
    table = pd.DataFrame({"mean": grouped.mean(), "error": grouped.sem(), "seeds": grouped.count()}).reset_index()
    if table.empty or table.groupby("label")["value"].nunique().max() < 2:
        raise UserError("no method was run with two values of this setting; sweep over it (main.py sweep)")
    return table.sort_values(["label", "value"], kind="stable").reset_index(drop=True)


def best_runs(tasks: pd.DataFrame, values: pd.Series, *, measure: str = "mean") -> list[str]:
    """Names of the runs of every method with its best value of a swept setting (see `sensitivity_table`)."""
    plain = without(tasks, str(values.name)).drop(columns="lr", errors="ignore")
    lower = not performance(prepared(plain, ["task"])).higher_is_better
    scores = run_scores(plain)
    scores["value"] = scores["run"].map(values)
    means = scores.groupby(["label", "value"], dropna=False)[measure].mean()
    if lower:
        means = -means
    best = means.fillna(-np.inf).groupby(level="label").idxmax()
    keys = list(zip(scores["label"], scores["value"].astype(object).where(scores["value"].notna(), None), strict=True))
    wanted = {(label, None if pd.isna(value) else value) for label, value in best}
    return [run for run, key in zip(scores["run"], keys, strict=True) if key in wanted]


def first_moves(
    tasks: pd.DataFrame, *, metrics: Sequence[str] | None = None, window: int | None = None, threshold: float = 3.0
) -> pd.DataFrame:
    """When each diagnostic left the range of the first tasks, next to when performance did.

    The first `window` tasks (default: a fifth, at least 3) of a run give its mean and standard deviation; a value has
    moved at the first later task from which on the running mean of three tasks stays more than `threshold` standard
    deviations away. Measured after the tasks. Columns: label, metric (performance comes as `performance`), task
    (median over seeds; NaN: most seeds never moved), moved (share of seeds), direction (+1, -1).
    """
    tasks = prepared(tasks, ["task"]).sort_values("task")
    columns = {"performance": performance(tasks).column}
    columns |= {name: f"{name}_after" for name in present_metrics(tasks, metrics, ["after"])}
    rows = []
    for label, same in tasks.groupby("label", sort=False):
        for metric, source in columns.items():
            found = [_moved(run["task"], run[source], window, threshold) for _, run in same.groupby("run")]
            when = np.array([task for task, _ in found])
            share = float(np.isfinite(when).mean())
            directions = [direction for task, direction in found if np.isfinite(task)]
            row = {"label": label, "metric": metric, "moved": share}
            row |= {"task": float(np.median(when[np.isfinite(when)])) if share >= 0.5 else float("nan")}
            rows.append(row | {"direction": float(np.sign(np.sum(directions))) if directions else 0.0})
    return pd.DataFrame(rows)


def _moved(tasks: pd.Series, values: pd.Series, window: int | None, threshold: float) -> tuple[float, float]:
    """(task, direction) of one run, or (NaN, 0)."""
    window = window or max(3, len(values) // 5)
    values = values.to_numpy(dtype=float)
    if len(values) < window + 3:
        return float("nan"), 0.0
    start = values[:window]
    spread = max(float(np.std(start, ddof=1)), 1e-3 * abs(float(np.mean(start))), 1e-12)
    running = pd.Series(values).rolling(3).mean().to_numpy()
    away = (running - np.mean(start)) / spread
    outside = ~(np.abs(away) <= threshold)  # not finite: a net that has diverged has moved
    outside[:window] = False
    if not outside[-1]:
        return float("nan"), 0.0
    inside = np.flatnonzero(~outside)
    first = int(inside[-1]) + 1
    return float(tasks.to_numpy()[first]), float(np.sign(away[-1])) if np.isfinite(away[-1]) else 0.0


SCORES = ("mean", "final", "early", "late", "worst")


def text_rows(table: pd.DataFrame, digits: int = 3) -> list[list[str]]:
    """Header and rows as text, the index first; NaN is a dash, and low/high become an interval in their column.

    Performance is written as its measure is (`summary_table`'s column; without it as a plain number).
    """
    table = table.reset_index()
    measure = measure_of(table["measure"].iloc[0]) if "measure" in table and len(table) else Measure("", "")
    shown = {}
    for name in table.columns.drop(["measure", "low", "high", "comparable"], errors="ignore"):
        values = table[name]
        if name == "change":
            ends = (table.get(end, pd.Series(np.nan, table.index)) for end in ("low", "high"))
            rows = zip(values, *ends, strict=True)
            shown[name] = [measure.change_text(change, low, high, digits) for change, low, high in rows]
        elif name in SCORES:
            shown[name] = [measure.text(value, digits) for value in values]
        else:
            shown[name] = [_text(value, digits) for value in values.tolist()]
    if "cost" in shown and "comparable" in table:  # another session's or load's: an approximation
        shown["cost"] = [
            cost if known else f"~{cost}" for cost, known in zip(shown["cost"], table["comparable"], strict=True)
        ]
    return [list(map(str, shown)), *map(list, zip(*shown.values(), strict=True))]


def _text(value: Any, digits: int) -> str:
    return Measure("", "").text(value, digits) if isinstance(value, float) else str(value)


def markdown_table(table: pd.DataFrame, digits: int = 3) -> str:
    """The table in Markdown."""
    header, *rows = text_rows(table, digits)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex_table(table: pd.DataFrame, digits: int = 3) -> str:
    """The table as a LaTeX tabular, with booktabs rules."""

    def escaped(cell: str) -> str:
        return "".join(f"\\{c}" if c in "_%&#$" else c for c in cell)

    header, *rows = [" & ".join(map(escaped, row)) + r" \\" for row in text_rows(table, digits)]
    columns = "l" + "r" * (len(text_rows(table, digits)[0]) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    )
