"""Figures of what earlier tasks do for a later one, beside a net trained from scratch: test accuracies, returns."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lop.utils.errors import UserError
from lop.viz.measures import measure_of, value_axis
from lop.viz.style import (
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

TEST, RETURN = "test_acc_after", "online_return"


@styled
def generalisation(tasks: pd.DataFrame, *, reference: str | None = None, baselines: Sequence[str] = ("sgd",)) -> Figure:
    """Test accuracy at the end of every task, a line per label; with a reference also what each lacks to it.

    tasks: the task table of one or many runs. reference: the label of a net trained from scratch in every task
    (`network_reset`): the right panel shows test accuracy minus the reference's of the same seed and task, so that
    below zero the earlier tasks have cost something (Ash & Adams 2020). Raises UserError without test accuracies, and
    for a reference that is not there.
    """
    tasks = prepared(tasks, ["task"])
    if TEST not in tasks.columns or tasks[TEST].isna().all():
        raise UserError(
            "the table has no test accuracies: this benchmark has no test images, or run.diagnostics is off"
        )
    words = (f"{measure_of(TEST).label} at the task's end", "Test accuracy over tasks", "percentage points")
    return _over_tasks(tasks, TEST, reference, baselines, words)


@styled
def forward_transfer(tasks: pd.DataFrame, *, reference: str, baselines: Sequence[str] = ("adam",)) -> Figure:
    """Return per episode of every task, a line per label, and what each gains over a net that begins anew there.

    tasks: the task table of runs of reinforcement learning. reference: the label of the runs with `network_reset`: the
    right panel shows a task's mean return minus the reference's of the same seed and task, the area between the two
    learning curves: the forward transfer of Wolczyk et al. (2021), "Continual World", in units of return since
    returns have no common scale. Raises UserError without returns, and for a reference that is not there.
    """
    tasks = prepared(tasks, ["task", RETURN])
    words = (measure_of(RETURN).label, "Return over tasks", "return per episode")
    return _over_tasks(tasks, RETURN, reference, baselines, words)


def _over_tasks(
    tasks: pd.DataFrame, column: str, reference: str | None, baselines: Sequence[str], words: tuple[str, str, str]
) -> Figure:
    """words: the left panel's axis and title, and the unit of the differences."""
    labels = list(dict.fromkeys(tasks["label"]))
    if reference is not None and reference not in labels:
        raise UserError(f"reference: no run is labelled {reference!r}; there are {', '.join(labels)}")
    figure, axes = new_figure(1, 1 if reference is None else 2, height=3.9)
    styles = label_styles(tasks, baselines)
    left = axes[0, 0]
    for label, style in styles.items():
        draw_mean(left, tasks[tasks["label"] == label], "task", column, label=label, **style)
    left.set_ylabel(words[0])
    note = seeds_note(tasks)
    left.set_title(words[1] + (f" ({note})" if note else ""))
    value_axis(left, measure_of(column))
    task_axis(left)
    label_legend(figure, left)
    if reference is not None:
        gaps = gap_to(tasks, reference, column)
        right = axes[0, 1]
        for label, style in styles.items():
            if label != reference:
                draw_mean(right, gaps[gaps["label"] == label], "task", "gap", label=label, **style)
        right.axhline(0, color="#888888", linewidth=1, zorder=0)
        right.set_ylabel(f"Difference ({words[2]})")
        right.set_title(f"Against {reference}, seed by seed")
        task_axis(right)
    return figure


def gap_to(tasks: pd.DataFrame, reference: str, column: str = TEST) -> pd.DataFrame:
    """Rows (label, run, seed, task, gap): a column minus that of the reference of the same seed and task.

    Shares in percentage points, other numbers as they are.
    """
    scratch = tasks[tasks["label"] == reference].set_index(["seed", "task"])[column]
    scratch = scratch[~scratch.index.duplicated()]
    others = tasks[tasks["label"] != reference]
    keys = pd.MultiIndex.from_frame(others[["seed", "task"]])
    scale = 100 if measure_of(column).unit else 1
    gaps = scale * (others[column].to_numpy() - scratch.reindex(keys).to_numpy())
    return others[["label", "run", "seed", "task"]].assign(gap=gaps)
