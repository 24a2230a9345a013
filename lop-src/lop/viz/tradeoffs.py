"""Figures of what performance costs, how sensitive it is, and which diagnostics moved first."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from lop.runs import Results
from lop.utils.errors import UserError
from lop.viz.compare import run_scores, seed_scores
from lop.viz.measures import measure_of, performance
from lop.viz.style import (
    Figure,
    handles_of,
    interval_bars,
    intervals_note,
    label_legend,
    label_styles,
    legend_below,
    new_figure,
    prepared,
    seeds_note,
    styled,
)
from lop.viz.summary import first_moves, relative_cost, seconds_per_task, sensitivity_table

MOST_TICKS = 10  # values of a setting up to which each has its tick


@styled
def cost_and_result(results: Results, *, baseline: str = "sgd", costs: pd.DataFrame | None = None) -> Figure:
    """Average and last-task performance against training time, as a multiple of the baseline's. A point per label.

    Bars: 95% bootstrap intervals over seeds. costs: as `relative_cost` returns them, which is the default. Raises
    UserError when the baseline is not among the labels.
    """
    tasks = prepared(results.tasks, ["task"])
    measured = performance(tasks)
    seconds = seconds_per_task(results.timing)
    if baseline not in seconds.index:
        raise UserError(f"no run is labelled {baseline!r}; baseline: one of {', '.join(seconds.index)}")
    known = relative_cost(results.timing, baseline) if costs is None else costs
    cost, scores = known["cost"], seed_scores(run_scores(tasks))
    figure, axes = new_figure(1, 2, height=4.0, sharey=True)
    for label, style in label_styles(tasks, [baseline]).items():
        one = scores[scores["label"] == label]
        marker = "o" if style["marker"] == "." else style["marker"]
        for ax, measure in zip(axes[0], ("mean", "late"), strict=True):
            error = interval_bars(one[measure])
            look = {"fmt": marker, "markersize": 8, "color": style["color"], "capsize": 3}
            look["label"] = label if known.loc[label, "comparable"] else f"{label} (~ timed apart)"
            ax.errorbar([cost[label]], [one[measure].mean()], yerr=error, **look)
    for ax, title in zip(axes[0], ("All tasks", "Last fifth of the tasks"), strict=True):
        ax.set(title=title, xlabel=f"Training time ({baseline} = 1)")
        ax.margins(0.12)
        ax.set_xlim(left=0)
        measured.format_axis(ax.yaxis)
    axes[0, 0].set_ylabel(measured.label)
    legend_below(figure, handles_of(axes[0, 0]))
    note = intervals_note(tasks)
    figure.suptitle("What does the result cost?" + (f" ({note})" if note else " (one seed)"), x=0.01, ha="left")
    return figure


@styled
def sensitivity(
    tasks: pd.DataFrame,
    values: pd.Series,
    *,
    setting: str = "step size",
    measure: str = "mean",
    baselines: Sequence[str] = (),
) -> Figure:
    """Performance over the values of a swept setting: one line per method, band of one standard error, log axis.

    values: by run, see `sensitivity_table`, which raises the UserErrors. measure: mean, final, early or late.
    """
    table = sensitivity_table(tasks, values, measure=measure)
    measured = performance(prepared(tasks, ["task"]))
    figure, axes = new_figure(1, 1, height=4.2)
    ax = axes[0, 0]
    for label, style in label_styles(table, baselines).items():
        one = table[table["label"] == label]
        ax.plot(one["value"], one["mean"], label=label, **style)
        if one["error"].notna().any():
            low, high = one["mean"] - one["error"], one["mean"] + one["error"]
            ax.fill_between(one["value"], low, high, color=style["color"], alpha=0.18, linewidth=0)
    if (table["value"] > 0).all():
        ax.set_xscale("log")
    tried = np.sort(table["value"].unique())
    if len(tried) <= MOST_TICKS:
        ax.set_xticks(tried, [f"{value:g}" for value in tried])
        ax.xaxis.set_minor_locator(NullLocator())
    measured.format_axis(ax.yaxis)
    ax.set(xlabel=setting, ylabel=f"{measured.label}, {measure}")
    label_legend(figure, ax)
    note = seeds_note(prepared(tasks, ["task"]).assign(label="all")) if table["seeds"].max() > 1 else ""
    figure.suptitle(f"Sensitivity to {setting}" + (" (mean ± standard error)" if note else ""), x=0.01, ha="left")
    return figure


@styled
def order_of_moves(
    tasks: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    baselines: Sequence[str] = (),
    among: Sequence[str] = (),
) -> Figure:
    """The task at which each diagnostic left the range of the first tasks, earliest on top; performance as a line.

    What counts as having moved: see `first_moves`. Arrow heads say in which direction. Raises UserError where
    nothing moved.
    """
    table = first_moves(tasks, metrics=metrics)
    moved = table[np.isfinite(table["task"])]
    if moved.empty:
        raise UserError("nothing has moved away from where it was in the first tasks: more tasks are needed")
    styles = label_styles(prepared(tasks, ["task"]), baselines, among)
    inner = moved[moved["metric"] != "performance"]
    names = list(inner.groupby("metric")["task"].min().sort_values(kind="stable").index)
    figure, axes = new_figure(1, 1, height=1.8 + 0.34 * max(1, len(names)))
    ax = axes[0, 0]
    step = 0.6 / max(1, len(styles))
    for i, (label, style) in enumerate(styles.items()):
        shift = (i - (len(styles) - 1) / 2) * step
        seen = style["color"] in {other["color"] for other in [*styles.values()][:i]}
        look = {"color": style["color"], "markerfacecolor": "white" if seen else style["color"]}
        ax.plot([], [], "s", label=label, **look)
        for row in inner[inner["label"] == label].itertuples():
            marker = {1.0: "^", -1.0: "v"}.get(row.direction, "o")
            ax.plot([row.task], [-names.index(row.metric) - shift], marker, markersize=8, **look)
        when = moved[(moved["label"] == label) & (moved["metric"] == "performance")]["task"]
        if len(when):
            ax.axvline(when.iloc[0], color=style["color"], linestyle="--", linewidth=1.4)
    ax.set_yticks(-np.arange(len(names)), [measure_of(name).label for name in names])
    ax.set(xlabel="Task at which it left the range of the first tasks", ylim=(-len(names) + 0.4, 0.6))
    ax.set_xlim(0, prepared(tasks, ["task"])["task"].max() + 1)
    legend_below(figure, handles_of(ax))
    figure.suptitle("What moved first? (▲ up, ▼ down; dashed: performance)", x=0.01, ha="left")
    return figure
