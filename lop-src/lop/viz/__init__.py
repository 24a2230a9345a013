"""Figures: a table of runs in (see `lop.runs.load`), a matplotlib figure out.

Lines are means over the runs that share a label, with bands of one standard error; baselines are grey. Nothing goes
through pyplot: a figure shows itself as the last value of a notebook cell or by `display(figure)`, and is freed with
its variable.
"""

from lop.viz.compare import (
    compare_optimizers,
    diagnostics_vs_accuracy,
    predictive_power,
    run_scores,
    spearman_interval,
)
from lop.viz.control import policy_over_time
from lop.viz.diagnostics import dashboard_grid
from lop.viz.explore import explore
from lop.viz.generalisation import forward_transfer, generalisation
from lop.viz.layers import dormant_heatmap, layer_ranks, ntk_spectrum
from lop.viz.online import online_accuracy, online_curve, within_task
from lop.viz.study import scaled_scores, study_changes, study_ranks, study_scores, tuning_curves
from lop.viz.summary import (
    best_runs,
    first_moves,
    latex_table,
    markdown_table,
    sensitivity_table,
    summary_table,
)
from lop.viz.tradeoffs import cost_and_result, order_of_moves, sensitivity

__all__ = [
    "best_runs",
    "compare_optimizers",
    "cost_and_result",
    "dashboard_grid",
    "diagnostics_vs_accuracy",
    "dormant_heatmap",
    "explore",
    "first_moves",
    "forward_transfer",
    "generalisation",
    "latex_table",
    "layer_ranks",
    "markdown_table",
    "ntk_spectrum",
    "online_accuracy",
    "online_curve",
    "order_of_moves",
    "policy_over_time",
    "predictive_power",
    "run_scores",
    "scaled_scores",
    "sensitivity",
    "sensitivity_table",
    "spearman_interval",
    "study_changes",
    "study_ranks",
    "study_scores",
    "summary_table",
    "tuning_curves",
    "within_task",
]
