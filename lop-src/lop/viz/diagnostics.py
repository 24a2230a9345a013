"""Figures of the dashboard's diagnostics over tasks."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lop.metrics import CORE, METRICS
from lop.utils.errors import UserError, lookup
from lop.viz.measures import better, measure_of, value_axis
from lop.viz.style import (
    MOST_MARKERS,
    Figure,
    draw_mean,
    label_styles,
    legend_below,
    new_figure,
    prepared,
    seeds_note,
    styled,
    task_axis,
)

PHASE_TEXT = {"before": "before the task", "after": "after the task"}
MOST_ENTRIES, LONGEST = 8, 26  # lines and letters of a legend that fit into a cell


def present_metrics(tasks: pd.DataFrame, metrics: Sequence[str] | None, phases: Sequence[str]) -> list[str]:
    """The metrics asked for, or all that the table has values of: the dashboard's own first, in its order.

    Raises UserError for a metric that is not in the registry or of which the table has no value.
    """

    def measured(name: str) -> bool:
        columns = [f"{name}_{phase}" for phase in phases if f"{name}_{phase}" in tasks.columns]
        return bool(columns) and bool(tasks[columns].notna().any().any())

    if metrics is None:
        names = [name for name in dict.fromkeys([*CORE, *METRICS]) if measured(name)]
        if not names:
            raise UserError(f"the table has no diagnostics ({' or '.join(phases)} the tasks)")
        return names
    for name in metrics:
        lookup(METRICS, name, "metric")
        if not measured(name):
            raise UserError(f"the table has no values of {name!r}; ask for it in the run's metrics")
    return list(metrics)


@styled
def dashboard_grid(
    tasks: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    phases: Sequence[str] = ("before", "after"),
    baselines: Sequence[str] = ("sgd",),
    among: Sequence[str] = (),
) -> Figure:
    """All diagnostics over tasks, one panel each: solid after the task, dotted before it; bands: standard error.

    tasks: the task table of one or many runs. metrics: names of diagnostics, default: all that were measured.
    """
    tasks = prepared(tasks, ["task"])
    names = present_metrics(tasks, metrics, phases)
    styles = label_styles(tasks, baselines, among)
    columns = 3
    rows = -(-len(names) // columns)
    figure, axes = new_figure(rows, columns, height=2.25 * rows + 0.4)
    for ax, name in zip(axes.flat, names, strict=False):
        for label, style in styles.items():
            runs = tasks[tasks["label"] == label]
            if "before" in phases and f"{name}_before" in runs.columns:
                faint = style | {"linestyle": ":", "linewidth": 1.3, "marker": "", "alpha": 0.9}
                draw_mean(ax, runs, "task", f"{name}_before", label=f"{label}, before", **faint)
            if "after" in phases and f"{name}_after" in runs.columns:
                draw_mean(ax, runs, "task", f"{name}_after", label=label, **(style | {"markersize": 3}))
        describe_axis(ax, name)
        task_axis(ax)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    handles, title = _legend(styles, phases, tasks)
    if len(names) % columns == 0 or len(handles) > MOST_ENTRIES or max(map(len, styles)) > LONGEST:
        legend_below(figure, handles, title)
    else:  # into the next cell
        axes.flat[len(names)].legend(handles=handles, title=title, loc="center left")
    for ax in axes.flat[: max(0, len(names) - columns)]:
        ax.set_xlabel("")
    figure.suptitle("Diagnostics over tasks", x=0.01, ha="left")
    return figure


def describe_axis(ax: Axes, name: str) -> None:
    """Title, direction and ticks of a panel that shows one diagnostic."""
    measure = measure_of(name)
    ax.set_title(measure.label + better(measure))
    if METRICS[name].integer:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    else:
        value_axis(ax, measure)


def _legend(styles: dict[str, dict], phases: Sequence[str], tasks: pd.DataFrame) -> tuple[list[Line2D], str]:
    bare = {"marker": ""} if tasks["task"].nunique() > MOST_MARKERS else {}
    handles = [Line2D([], [], label=label, **(style | bare)) for label, style in styles.items()]
    looks: dict[str, Literal[":", "-"]] = {"before": ":", "after": "-"}
    handles += [Line2D([], [], color="#333333", linestyle=looks[p], label=PHASE_TEXT[p]) for p in phases]
    return handles, seeds_note(tasks).replace(" over", "\nover") + "\n↑ higher is better, ↓ lower"
