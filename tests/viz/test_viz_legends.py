"""No long legend lies on what a figure shows, and none is cut off: with one method as with many of long names."""

import numpy as np
import pandas as pd
import pytest
from made_tables import make_layers, make_online, make_tasks

from lop import viz
from lop.runs import Results
from lop.viz.style import MOST_INSIDE

FEW = ("sgd",)
MANY = ("sgd", *(f"method {i}" for i in range(10)), "sassha + continual_backprop + shrink_and_perturb + l2_init")


def values(tasks: pd.DataFrame) -> pd.Series:
    runs = tasks.drop_duplicates("run")["run"]
    return pd.Series(np.where(runs.str.endswith("0"), 0.1, 0.2), runs)


def results(labels) -> Results:
    tasks = make_tasks(labels, num_tasks=4)
    timing = tasks[["run", "label", "seed", "task"]].assign(seconds=1.5, diagnostics_seconds=0.5, session="s1")
    return Results(tasks=tasks, timing=timing)


def evaluated(labels) -> pd.DataFrame:
    rows = make_tasks(labels, num_tasks=1).assign(purpose="evaluation", measure="online_accuracy")
    return rows.assign(method=rows["label"], mean=rows["online_accuracy"])


FIGURES = {
    "online_accuracy": lambda labels: viz.online_accuracy(make_tasks(labels, num_tasks=4)),
    "online_curve": lambda labels: viz.online_curve(make_online(labels)),
    "within_task": lambda labels: viz.within_task(make_online(labels[:1], num_tasks=40), tasks=range(25)),
    "dashboard_in_a_cell": lambda labels: viz.dashboard_grid(make_tasks(labels), metrics=["eff_rank"]),
    "dashboard_below": lambda labels: viz.dashboard_grid(make_tasks(labels), metrics=["eff_rank"] * 3),
    "layer_ranks": lambda labels: viz.layer_ranks(many_layers(len(labels)), metrics=["eff_rank"]),
    "compare_optimizers": lambda labels: viz.compare_optimizers(make_tasks(labels)),
    "diagnostics_vs_accuracy": lambda labels: viz.diagnostics_vs_accuracy(make_tasks(labels), metrics=["eff_rank"]),
    "generalisation": lambda labels: viz.generalisation(make_tasks(labels)),
    "policy_over_time": lambda labels: viz.policy_over_time(make_tasks(labels).assign(policy_kl=0.1)),
    "cost_and_result": lambda labels: viz.cost_and_result(results(labels)),
    "sensitivity": lambda labels: viz.sensitivity(make_tasks(labels), values(make_tasks(labels))),
    "order_of_moves": lambda labels: viz.order_of_moves(make_tasks(labels, num_tasks=12), metrics=["eff_rank"]),
    "study_ranks": lambda labels: viz.study_ranks(evaluated([*labels, "adam"])),
}


def many_layers(count: int) -> pd.DataFrame:
    tables = [make_layers(("sgd",)).assign(layer=number, name=f"block{number}.conv1") for number in range(2 * count)]
    return pd.concat(tables).drop_duplicates(["layer", "task", "phase"])


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("labels", [FEW, MANY], ids=["few", "many"])
def test_every_legend_is_whole_and_a_long_one_beside_the_axes(name, labels):
    figure = FIGURES[name](labels)
    figure.canvas.draw()
    drawn = [ax for ax in figure.axes if ax.axison]
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend() is not None)]
    assert legends or name == "compare_optimizers"  # which names its rows
    for legend in legends:
        box = legend.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        inside = len(legend.get_texts()) <= MOST_INSIDE and legend not in figure.legends
        for ax in drawn if not inside else ():
            area = ax.get_tightbbox() if legend in figure.legends else ax.get_window_extent()
            assert not box.overlaps(area)
            assert ax.get_window_extent().height > 0.8 * figure.dpi  # the legend has not taken its place
