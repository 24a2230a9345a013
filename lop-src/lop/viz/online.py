"""Figures of online performance: what the learner predicted before each update."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from lop.viz.measures import performance, value_axis
from lop.viz.style import (
    LINE,
    Figure,
    draw_mean,
    label_legend,
    label_styles,
    new_figure,
    prepared,
    seeds_note,
    styled,
    task_axis,
)


@styled
def online_accuracy(tasks: pd.DataFrame, *, baselines: Sequence[str] = ("sgd",), among: Sequence[str] = ()) -> Figure:
    """Online accuracy (RL: return, regression: loss) of every task, a line per label; a cross marks a divergence.

    tasks: the task table of one or many runs. Falling lines are loss of plasticity (Dohare et al. 2024).
    """
    tasks = prepared(tasks, ["task"])
    measure = performance(tasks)
    column, name = measure.column, measure.label
    figure, axes = new_figure(1, 1, height=3.9)
    ax = axes[0, 0]
    for label, style in label_styles(tasks, baselines, among).items():
        runs = tasks[tasks["label"] == label]
        draw_mean(ax, runs, "task", column, label=label, **style)
        if "diverged_step" in runs.columns:
            _mark_divergence(ax, runs[runs["diverged_step"] >= 0], "task", style["color"])
    task_axis(ax)
    ax.set_ylabel(name if column == "online_return" else f"{name}\n(predicted before each update)")
    value_axis(ax, measure)
    ax.set_title(_title(f"{name} over tasks", tasks))
    label_legend(figure, ax)
    return figure


def _mark_divergence(ax: Axes, diverged: pd.DataFrame, x: str, color: str) -> None:
    """A cross per run, at its first row."""
    for _, run in diverged.groupby("run"):
        place, along_bottom = (run[x].min(), 0.05), ax.get_xaxis_transform()
        ax.plot(*place, marker="X", markersize=8, color=color, label="_diverged", transform=along_bottom)
        ax.annotate("diverged", place, xycoords=along_bottom, xytext=(7, -4), textcoords="offset points", color=color)


def _title(text: str, table: pd.DataFrame) -> str:
    note = seeds_note(table)
    return f"{text} ({note})" if note else text


@styled
def online_curve(online: pd.DataFrame, *, baselines: Sequence[str] = ("sgd",), among: Sequence[str] = ()) -> Figure:
    """Online accuracy (RL: return, regression: loss) in bins of steps, a line per label; vertical lines part tasks.

    A cross marks the first bin with a loss that is not finite: the learner has diverged.
    """
    online = prepared(online, ["task", "bin", "step"])
    measure = performance(online, prefix="")
    column, name = measure.column, measure.label
    figure, axes = new_figure(1, 1, height=3.7)
    ax = axes[0, 0]
    for label, style in label_styles(online, baselines, among).items():
        runs = online[online["label"] == label]
        draw_mean(ax, runs, "step", column, label=label, **(style | {"marker": ""}))
        if "loss" in runs.columns:
            _mark_divergence(ax, runs[~np.isfinite(runs["loss"])], "step", style["color"])
    ends = np.sort(online.groupby("task")["step"].max().to_numpy())
    if len(ends) <= 20:
        ax.grid(axis="x", visible=False)
        for step in ends[:-1]:
            ax.axvline(step, color="#c8c8c8", linewidth=0.8, zorder=0)
    ax.set_xlabel("Environment steps" if column == "return" else "Step (updates since the start)")
    ax.set_ylabel(f"{name} in the bin")
    value_axis(ax, measure)
    ax.set_title(_title(f"{name} within and across tasks", online))
    label_legend(figure, ax)
    return figure


@styled
def within_task(online: pd.DataFrame, *, tasks: Sequence[int] | None = None) -> Figure:
    """How fast single tasks are learned: binned online accuracy over the examples of a task, one panel per label.

    tasks: task numbers to draw, negative from the end; default: up to four, spread from the first to the last.
    """
    online = prepared(online, ["task", "bin", "examples"])
    measure = performance(online, prefix="")
    column, name = measure.column, measure.label
    chosen = chosen_tasks(online["task"], tasks)
    labels = list(dict.fromkeys(online["label"]))
    longest = max(len(word) for label in labels for word in label.split())
    columns = min(3 if longest <= 22 else 2, len(labels))  # titles must not run into each other
    rows = -(-len(labels) // columns)
    each = max(3.6, LINE * (3 + len(chosen)))  # inches: the legend is beside it
    figure, axes = new_figure(rows, columns, height=each * rows, sharex=True, sharey=True)
    online = online.sort_values("bin")
    online["seen"] = online.groupby(["run", "label", "task"])["examples"].cumsum()
    for ax, label in zip(axes.flat, labels, strict=False):
        for task, style in task_styles(chosen).items():
            one = online[(online["label"] == label) & (online["task"] == task)]
            if not one.empty:
                draw_mean(ax, one, "seen", column, label=f"task {task}", **style)
        ax.set_title(textwrap.fill(label, 72 // columns, break_long_words=False))
        ax.locator_params(axis="x", nbins=9 // columns + 2)
        value_axis(ax, measure)
    for ax in axes.flat[len(labels) :]:
        ax.set_axis_off()
    axes[0, columns - 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.supxlabel("Examples of the task seen so far", fontsize=11)
    figure.supylabel(f"{name} in the bin", fontsize=11)
    figure.suptitle("Learning within a task", x=0.01, ha="left")
    return figure


def chosen_tasks(numbers: pd.Series, tasks: Sequence[int] | None) -> list[int]:
    """Task numbers in a table: those asked for (negative: from the end), or up to four from first to last."""
    present = np.sort(numbers.unique())
    if tasks is None:
        spread = np.linspace(0, len(present) - 1, min(4, len(present))).round().astype(int)
        return [int(task) for task in present[spread]]
    last = int(present[-1])
    wanted = [task if task >= 0 else last + 1 + task for task in tasks]
    return [task for task in dict.fromkeys(wanted) if task in present]


def task_styles(tasks: Sequence[int]) -> dict[int, dict]:
    """Dark to light with the task number, with a marker of its own."""
    shades = colormaps["viridis"](np.linspace(0.0, 0.82, max(1, len(tasks))))
    return {
        task: {"color": shade, "marker": marker, "linestyle": "-"}
        for task, shade, marker in zip(tasks, shades, "osD^vPX*" * (1 + len(tasks) // 8), strict=False)
    }
