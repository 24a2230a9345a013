"""Figures that compare methods, and diagnostics with performance."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lop.runs.statistics import early_late, window_of
from lop.utils.errors import UserError
from lop.viz.diagnostics import present_metrics
from lop.viz.measures import final_measure, measure_of, performance
from lop.viz.style import (
    Figure,
    at_least,
    handles_of,
    interval_bars,
    intervals_note,
    label_styles,
    legend_below,
    new_figure,
    prepared,
    styled,
    unzoomed,
)

PERFORMANCE = ("loss", "train_acc", "test_acc")


def common_tasks(tasks: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tasks that all runs have."""
    runs = tasks.groupby(["label", "run"]).ngroups
    return tasks[tasks.groupby("task")["task"].transform("size") == runs]


def run_scores(tasks: pd.DataFrame, window: int | None = None) -> pd.DataFrame:
    """One row per run: mean, final, early and late performance over the tasks that all runs have.

    window: tasks at either end that count as early and late; default: a fifth of the tasks, at least one.
    Columns: label, run, seed, mean (online), final (see `final_measure`, mean of the last `window` tasks), early and
    late (online, first and last `window` tasks), change (late - early).
    """
    tasks = prepared(tasks, ["task"])
    column, final = performance(tasks).column, final_measure(tasks).column
    tasks = common_tasks(tasks)
    window = window_of(tasks["task"].nunique(), window)
    rows = []
    for (label, run), one in tasks.groupby(["label", "run"], sort=False):
        one = one.sort_values("task")
        early, late = early_late(one[column], window)
        row = {
            "label": label,
            "run": run,
            "seed": one["seed"].iloc[0],
            "mean": one[column].mean(),
            "final": one[final].tail(window).mean(),
        }
        rows.append(row | {"early": early, "late": late, "change": late - early})
    return pd.DataFrame(rows)


def seed_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per label and seed: runs of one seed, under two names, are one sample and are averaged."""
    return scores.groupby(["label", "seed"], sort=False, as_index=False).mean(numeric_only=True)


def compared_tasks(tasks: pd.DataFrame, window: int | None = None) -> tuple[dict[str, str], str]:
    """Over which tasks a table is: ({label: `0-5 of 20`}, `early 0, late 5`), the same windows for all labels.

    tasks: prepared. A label's own number is that of its longest run.
    """
    common = sorted(common_tasks(tasks)["task"].unique())
    if not common:
        raise UserError("no task was finished by all of these runs: compare fewer, or let them go on")
    window = window_of(len(common), window)
    own = tasks.groupby("label", sort=False)["task"].nunique()
    spans = {label: f"{_span(common)} of {count}" for label, count in own.items()}
    return spans, f"early {_span(common[:window])}, late {_span(common[-window:])}"


def _span(numbers: Sequence[int]) -> str:
    """`0-5`; `0-8 (5 tasks)` where some between are left out."""
    first, last = int(numbers[0]), int(numbers[-1])
    if first == last:
        return str(first)
    return f"{first}-{last}" + ("" if len(numbers) == last - first + 1 else f" ({len(numbers)} tasks)")


@styled
def compare_optimizers(
    tasks: pd.DataFrame, *, window: int | None = None, baselines: Sequence[str] = ("sgd",), among: Sequence[str] = ()
) -> Figure:
    """Methods side by side: average online performance, what was reached in the end, and early against late tasks.

    A dot per seed, a large one for the mean, and its 95% bootstrap interval over seeds. Where a method has but one
    seed, and so no interval, the axes are not zoomed: nothing says how far apart is far. Only the tasks that all runs
    have are compared. window: tasks at either end that count as early and late (default: a fifth).
    """
    tasks = prepared(tasks, ["task"])
    measured, reached = performance(tasks), final_measure(tasks)
    common = common_tasks(tasks)["task"].nunique()
    window = window_of(common, window)
    scores = seed_scores(run_scores(tasks, window))
    styles = label_styles(tasks, baselines, among)
    places = {label: -i for i, label in enumerate(styles)}
    figure, axes = new_figure(1, 3, height=1.9 + 0.42 * len(styles), sharey=True)
    average, final, change = axes[0]
    for label, style in styles.items():
        one = scores[scores["label"] == label]
        _dots(average, one["mean"], places[label], style)
        _dots(final, one["final"], places[label], style)
        means = one[["early", "late"]].mean()
        change.annotate(
            "",
            xy=(means["late"], places[label]),
            xytext=(means["early"], places[label]),
            arrowprops={"arrowstyle": "-", "color": style["color"], "linewidth": 2, "shrinkA": 0, "shrinkB": 0},
        )
        _dots(change, one["early"], places[label], style | {"marker": "o"}, hollow=True)
        _dots(change, one["late"], places[label], style | {"marker": "o"})
    average.set_yticks(list(places.values()), list(places))
    average.set_ylim(min(places.values()) - 0.6, 0.6)
    last = "the last task" if window == 1 else f"the last {window} tasks"
    average.set_title("Average online" if measured.unit else f"Average {measured.label.lower()}")
    average.set_xlabel(f"{measured.label}, {common} tasks")
    final.set_title(f"Final {reached.label.lower()}")
    final.set_xlabel(f"After {last}")
    change.set_title("Early ○ → late ●")
    change.set_xlabel(f"First and last {'task' if window == 1 else f'{window} tasks'}")
    for ax in axes[0]:
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=4)
        ax.margins(x=0.12)
        measured.format_axis(ax.xaxis)
        if scores.groupby("label").size().min() < 2:
            unzoomed(ax, (0.0, 1.0) if measured.unit else (0.0, 0.0))
        elif measured.unit:
            at_least(ax, 0.02)
    note = intervals_note(tasks)
    figure.suptitle(f"Comparison ({note or 'one seed: no interval, axes not zoomed'})", x=0.01, ha="left")
    return figure


def _dots(ax: Axes, values: pd.Series, place: float, style: dict, hollow: bool = False) -> None:
    values = values[np.isfinite(values)]
    if values.empty:
        ax.annotate("diverged", (0.5, place), xycoords=("axes fraction", "data"), ha="center", color=style["color"])
        return
    color = style["color"]
    if len(values) > 1:
        ax.plot(values, [place] * len(values), linestyle="none", marker="o", markersize=3, color=color, alpha=0.45)
    error = interval_bars(values)
    marker = {"fmt": "o" if style["marker"] == "." else style["marker"], "markersize": 8, "color": color}
    face = "white" if hollow else color
    ax.errorbar([values.mean()], [place], xerr=error, capsize=4, markerfacecolor=face, zorder=3, **marker)


def spearman_interval(
    runs: Sequence[np.ndarray], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's rank correlation with a bootstrap confidence interval: (rho, low, high).

    runs: per run an array (tasks, 2) in the order of the tasks; pairs that are not finite are left out. Tasks next to
    each other resemble each other, so blocks of about n^(1/3) tasks are drawn (circular block bootstrap, Politis &
    Romano 1992), within each run, so that the interval is not too narrow. NaN for fewer than 4 pairs or a constant.
    """
    runs = [np.asarray(run, dtype=float) for run in runs]
    runs = [run[np.isfinite(run).all(axis=1)] for run in runs]
    runs = [run for run in runs if len(run)]
    if sum(len(run) for run in runs) < 4:
        return float("nan"), float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    drawn = []
    for run in runs:
        n = len(run)
        block = max(1, round(n ** (1 / 3)))
        starts = generator.integers(n, size=(resamples, -(-n // block), 1))
        rows = ((starts + np.arange(block)) % n).reshape(resamples, -1)[:, :n]
        drawn.append(run[rows])
    estimates = _spearman(np.concatenate(drawn, axis=1))
    estimates = estimates[np.isfinite(estimates)]
    rho = float(_spearman(np.concatenate(runs)[None])[0])
    if not np.isfinite(rho) or not len(estimates):
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return rho, float(low), float(high)


def _spearman(pairs: np.ndarray) -> np.ndarray:
    """Rank correlation of (samples, n, 2), per sample; NaN where one side is constant."""
    from scipy.stats import rankdata  # a second to import, and no other figure needs it

    ranks = rankdata(pairs, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    x, y = ranks[..., 0], ranks[..., 1]
    with np.errstate(invalid="ignore"):
        return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))


def predictive_power(tasks: pd.DataFrame, *, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Spearman correlation of each diagnostic at a task's start with the task's online performance, per label.

    metrics: default: all that were measured, but for loss and accuracy, which are performance themselves.
    Columns: label, metric, rho, low, high (95% interval, see `spearman_interval`), tasks.
    """
    tasks = prepared(tasks, ["task"]).sort_values("task")
    column = performance(tasks).column
    rows = []
    names = present_metrics(tasks, metrics, ["before"])
    for name in names if metrics else [name for name in names if name not in PERFORMANCE]:
        for label, one in tasks.groupby("label", sort=False):
            pairs = [run[[f"{name}_before", column]].to_numpy(dtype=float) for _, run in one.groupby("run")]
            rho, low, high = spearman_interval(pairs)
            rows.append({"label": label, "metric": name, "rho": rho, "low": low, "high": high, "tasks": len(one)})
    return pd.DataFrame(rows)


@styled
def diagnostics_vs_accuracy(
    tasks: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    baselines: Sequence[str] = ("sgd",),
    among: Sequence[str] = (),
) -> Figure:
    """Does a diagnostic at the start of a task predict how well the task is learned?

    Left: Spearman's rank correlation with its 95% bootstrap interval, per diagnostic and label. Right: the two
    diagnostics with the strongest correlation against the task's online accuracy, a dot per task.
    """
    tasks = prepared(tasks, ["task"])
    measured = performance(tasks)
    table = predictive_power(tasks, metrics=metrics)
    styles = label_styles(tasks, baselines, among)
    names = list(dict.fromkeys(table["metric"]))
    figure, _ = new_figure(1, 1, height=max(5.2, 1.6 + 0.085 * len(names) * (len(styles) + 1)))
    figure.clear()
    grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1])
    forest = figure.add_subplot(grid[:, 0])
    _forest(forest, table, names, styles)
    legend_below(figure, handles_of(forest))
    strength = table.assign(rho=table["rho"].abs()).groupby("metric")["rho"].max().sort_values(ascending=False)
    for cell, metric in enumerate(strength.dropna().index[:2]):
        ax = figure.add_subplot(grid[cell, 1])
        for label, style in styles.items():
            one = tasks[tasks["label"] == label]
            marker = "o" if style["marker"] == "." else style["marker"]
            ax.scatter(
                one[f"{metric}_before"], one[measured.column], s=16, alpha=0.65, color=style["color"], marker=marker
            )
        diagnostic = measure_of(metric)
        ax.set(xlabel=f"{diagnostic.label},\nbefore the task", ylabel=measured.label)
        measured.format_axis(ax.yaxis)
        diagnostic.format_axis(ax.xaxis)
    figure.suptitle(f"Does the diagnostic at a task's start predict its {measured.label.lower()}?", x=0.01, ha="left")
    return figure


def _forest(ax: Axes, table: pd.DataFrame, names: list[str], styles: dict[str, dict]) -> None:
    step = 0.7 / max(1, len(styles))
    for i, (label, style) in enumerate(styles.items()):
        one = table[table["label"] == label].set_index("metric").reindex(names)
        places = -np.arange(len(names)) - (i - (len(styles) - 1) / 2) * step
        reach = np.clip([one["rho"] - one["low"], one["high"] - one["rho"]], 0, None)
        marker = "o" if style["marker"] == "." else style["marker"]
        ax.errorbar(one["rho"], places, xerr=reach, fmt=marker, color=style["color"], capsize=2.5, label=label)
    known = table.groupby("metric")["rho"].count()
    for place, name in enumerate(names):
        if known[name] == 0:
            ax.annotate("constant, or too few tasks", (0, -place), ha="center", va="center", backgroundcolor="white")
    ax.axvline(0, color="#555555", linewidth=1)
    ax.set_yticks(-np.arange(len(names)), [measure_of(name).label for name in names])
    ax.set(xlim=(-1.05, 1.05), xlabel="Spearman correlation with 95% interval")
    ax.grid(axis="y", visible=False)
