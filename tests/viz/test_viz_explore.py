"""The explorer's figures, its form, and that it keeps quiet where nobody could use it."""

import numpy as np
import pandas as pd
import pytest
from made_tables import make_layers, make_online, make_tasks
from matplotlib.colors import to_rgba

from lop import viz
from lop.runs import Results
from lop.utils.attended import attended
from lop.utils.errors import UserError
from lop.viz import explore
from lop.viz.explore import FIGURES, figure, form, smoothed


@pytest.fixture
def results(tasks, layers, online) -> Results:
    """Runs of one name in all tables."""
    tasks = tasks[(tasks["seed"] == 0) & (tasks["label"] != "sassha + sdp")].assign(run=lambda t: t["label"])
    runs = tasks.drop_duplicates("run")[["run", "benchmark", "optimizer", "algos", "label", "seed", "lr"]]
    return Results(runs=runs, tasks=tasks, layers=layers, online=online)


@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_of_the_chosen_runs(results, kind):
    metrics = ["eff_rank", "dormant_proportion"]
    one = figure(results, kind, runs=["sassha"], metrics=metrics, layers=[0, 2], smoothing=2)
    one.canvas.draw()
    shown = {line.get_label() for ax in one.axes for line in ax.get_lines()}
    assert "sgd" not in shown


def test_an_empty_choice_is_one_line(results):
    with pytest.raises(UserError, match="no rows"):
        figure(results, "online accuracy", runs=[], metrics=["eff_rank"], layers=[0])


def test_smoothing_is_a_running_mean_within_each_run(results):
    table = smoothed(results.tasks, 3)
    raw = results.tasks.set_index(["run", "task"])["online_accuracy"]
    now = table.set_index(["run", "task"])["online_accuracy"]
    assert now["sgd", 4] == pytest.approx(np.mean([raw["sgd", task] for task in (2, 3, 4)]))
    assert now["sassha", 0] == raw["sassha", 0]
    pd.testing.assert_series_equal(table["task"], results.tasks["task"])
    assert smoothed(results.tasks, 1) is results.tasks


def test_the_form_redraws_and_says_what_is_wrong(results, capsys):
    box = form(results)
    left, right = box.children[0].children
    runs, kind, smooth = left.children
    metrics, layers = right.children
    assert runs.value == ("sgd", "sassha")
    assert "eff_rank" in metrics.options
    assert [name for name, _ in layers.options] == ["hidden0", "hidden1", "hidden2"]  # as the figures have them
    assert layers.value == (0, 1, 2)
    kind.value, smooth.value = "diagnostics", 3
    runs.value = ()
    assert "no rows" in capsys.readouterr().out


def test_nothing_is_shown_where_nobody_could_use_it(tmp_path, capsys):
    assert not attended()
    explore(tmp_path)  # there are no runs here, and nobody is told
    assert capsys.readouterr().out == ""


def looks(drawn) -> dict[str, tuple]:
    """Colour, dashes and marker of everything with a name in a figure, and where it is drawn."""
    lines = [line for ax in drawn.axes for line in ax.get_lines() if not line.get_label().startswith("_")]
    return {line.get_label(): (to_rgba(line.get_color()), line.get_linestyle(), line.get_marker()) for line in lines}


STATIC = {
    "online accuracy": lambda results: viz.online_accuracy(results.tasks, baselines=["sgd"]),
    "online curve": lambda results: viz.online_curve(results.online, baselines=["sgd"]),
    "diagnostics": lambda results: viz.dashboard_grid(results.tasks, metrics=["eff_rank"], baselines=["sgd"]),
    "layer ranks": lambda results: viz.layer_ranks(results.layers),
}


@pytest.mark.parametrize("kind", STATIC)
def test_a_choice_looks_as_it_does_in_the_figure_of_all(kind):
    """Colours, names and numbers of layers: also of the last label and the last layer, chosen alone."""
    labels = ("adam", "sgd", "sassha", "ema")
    tasks, layers, online = make_tasks(labels, seeds=1), make_layers(labels), make_online(labels)
    results = Results(tasks=tasks.assign(run=tasks["label"]), layers=layers, online=online)
    one = figure(results, kind, runs=["ema"], metrics=["eff_rank"], layers=[2], baselines=["sgd"])
    everything, chosen = looks(STATIC[kind](results)), looks(one)
    assert chosen
    assert chosen.keys() == {name for name in everything if name in ("ema", "ema, before", "hidden2")}
    assert chosen == {name: everything[name] for name in chosen}
