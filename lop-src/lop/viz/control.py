"""Figures of reinforcement learning beside the return: how the policy moves."""

from collections.abc import Sequence

import pandas as pd

from lop.utils.errors import UserError
from lop.viz.measures import value_axis
from lop.viz.style import Figure, draw_mean, label_legend, label_styles, new_figure, prepared, styled, task_axis

# Column of the task table, axis label.
PANELS = (
    ("online_length", "Steps per episode"),
    ("policy_kl", "Policy churn: KL(start of task, end)"),
    ("weight_change", "Mean |weight change| in the task"),
    ("action_std", "Standard deviation of actions"),
    ("policy_entropy", "Entropy of the policy (nats)"),
)


@styled
def policy_over_time(tasks: pd.DataFrame, *, baselines: Sequence[str] = ()) -> Figure:
    """Episode length, policy churn, weight change and exploration over tasks, a line per label.

    tasks: the task table of runs of reinforcement learning. Raises UserError for other tables.
    """
    tasks = prepared(tasks, ["task"])
    panels = [panel for panel in PANELS if panel[0] in tasks.columns]
    if not panels:
        raise UserError("the table has none of " + ", ".join(column for column, _ in PANELS))
    rows = -(-len(panels) // 2)
    figure, axes = new_figure(rows, 2, height=2.9 * rows)
    for ax, (column, name) in zip(axes.flat, panels, strict=False):
        for label, style in label_styles(tasks, baselines).items():
            draw_mean(ax, tasks[tasks["label"] == label], "task", column, label=label, **style)
        ax.set_title(name)
        task_axis(ax)
        value_axis(ax)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    label_legend(figure, axes[0, 0])
    return figure
