"""Figures of what is learned beyond the training data: test accuracy at the end of every task."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lop.utils.errors import UserError
from lop.viz.measures import measure_of, value_axis
from lop.viz.style import Figure, draw_mean, label_styles, new_figure, prepared, seeds_note, styled, task_axis

TEST = "test_acc_after"


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
    labels = list(dict.fromkeys(tasks["label"]))
    if reference is not None and reference not in labels:
        raise UserError(f"reference: no run is labelled {reference!r}; there are {', '.join(labels)}")
    figure, axes = new_figure(1, 1 if reference is None else 2, height=3.9)
    measure = measure_of(TEST)
    styles = label_styles(tasks, baselines)
    left = axes[0, 0]
    for label, style in styles.items():
        draw_mean(left, tasks[tasks["label"] == label], "task", TEST, label=label, **style)
    left.set_ylabel(f"{measure.label} at the task's end")
    note = seeds_note(tasks)
    left.set_title("Test accuracy over tasks" + (f" ({note})" if note else ""))
    value_axis(left, measure)
    task_axis(left)
    left.legend(loc="best")
    if reference is not None:
        gaps = gap_to(tasks, reference)
        right = axes[0, 1]
        for label, style in styles.items():
            if label != reference:
                draw_mean(right, gaps[gaps["label"] == label], "task", "gap", label=label, **style)
        right.axhline(0, color="#888888", linewidth=1, zorder=0)
        right.set_ylabel("Difference (percentage points)")
        right.set_title(f"Against {reference}, seed by seed")
        task_axis(right)
    return figure


def gap_to(tasks: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Rows (label, run, seed, task, gap): test accuracy minus that of the reference of the same seed, in points."""
    scratch = tasks[tasks["label"] == reference].set_index(["seed", "task"])[TEST]
    scratch = scratch[~scratch.index.duplicated()]
    others = tasks[tasks["label"] != reference]
    keys = pd.MultiIndex.from_frame(others[["seed", "task"]])
    gaps = 100 * (others[TEST].to_numpy() - scratch.reindex(keys).to_numpy())
    return others[["label", "run", "seed", "task"]].assign(gap=gaps)
