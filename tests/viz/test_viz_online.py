import matplotlib
import numpy as np
import pandas as pd
import pytest

from lop.utils.errors import UserError
from lop.viz import online_accuracy, online_curve, within_task
from lop.viz.measures import Percent
from lop.viz.style import BASELINE_COLOR, Figure


def line(ax, label):
    return next(one for one in ax.get_lines() if one.get_label() == label)


def band(ax, color):
    """The lower and upper edge of the band with this colour, by x."""
    wanted = matplotlib.colors.to_rgb(color)
    area = next(a for a in ax.collections if tuple(a.get_facecolor()[0][:3]) == wanted)
    corners = pd.DataFrame(area.get_paths()[0].vertices, columns=["x", "y"])
    return corners.groupby("x")["y"].min(), corners.groupby("x")["y"].max()


def test_line_is_the_mean_over_seeds_and_band_one_standard_error(tasks):
    ax = online_accuracy(tasks).axes[0]
    sassha = line(ax, "sassha")
    np.testing.assert_allclose(sassha.get_xdata(), range(6))
    np.testing.assert_allclose(sassha.get_ydata(), [0.61 - 0.01 * k for k in range(6)])
    low, high = band(ax, sassha.get_color())
    # two seeds 0.60 and 0.62: standard deviation sqrt(2) * 0.01, standard error 0.01
    np.testing.assert_allclose(low.loc[0.0], 0.60)
    np.testing.assert_allclose(high.loc[0.0], 0.62)


def test_baseline_is_grey_and_the_others_differ_in_colour_and_dashes(tasks):
    ax = online_accuracy(tasks).axes[0]
    assert line(ax, "sgd").get_color() == BASELINE_COLOR
    one, two = line(ax, "sassha"), line(ax, "sassha + sdp")
    assert one.get_color() != two.get_color()
    assert one.get_linestyle() != two.get_linestyle()
    assert line(online_accuracy(tasks[tasks["label"] == "sgd"]).axes[0], "sgd").get_color() != BASELINE_COLOR


def test_axes_and_legend_say_what_is_shown(tasks):
    ax = online_accuracy(tasks).axes[0]
    assert "Online accuracy" in ax.get_ylabel()
    assert ax.get_xlabel() == "Task"
    assert "standard error over 2 seeds" in ax.get_title(loc="left")
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"sgd", "sassha", "sassha + sdp"}
    assert ax.yaxis.get_major_formatter()(0.25, 0) == "25%"


def test_percent_ticks_have_as_many_decimals_as_the_finest_needs():
    formatter = Percent()
    assert formatter.format_ticks([0.89, 0.895, 0.9]) == ["89.0%", "89.5%", "90.0%"]
    assert formatter.format_ticks([0.2, 0.4, 1.0]) == ["20%", "40%", "100%"]


def test_regression_shows_the_loss(regression_tasks):
    ax = online_accuracy(regression_tasks).axes[0]
    assert "Online loss" in ax.get_ylabel()
    np.testing.assert_allclose(line(ax, "sgd").get_ydata(), [0.49 + 0.01 * k for k in range(6)])


def test_reinforcement_learning_shows_the_return(tasks, online):
    returns = tasks.drop(columns=["online_accuracy", "online_loss"]).assign(online_return=100.0 * tasks["task"])
    ax = online_accuracy(returns).axes[0]
    assert ax.get_ylabel() == "Return per episode"
    np.testing.assert_allclose(line(ax, "sassha").get_ydata(), 100.0 * np.arange(6))
    binned = online.drop(columns=["examples", "loss"]).rename(columns={"accuracy": "return"})
    assert "Return per episode" in online_curve(binned).axes[0].get_ylabel()
    with pytest.raises(UserError, match="online_accuracy, online_return, online_loss"):
        online_accuracy(returns.drop(columns="online_return"))


def test_a_diverged_run_is_marked_and_does_not_spoil_the_mean(tasks):
    lost = (tasks["run"] == "sassha-1") & (tasks["task"] >= 3)
    tasks.loc[lost, "online_accuracy"] = np.nan
    tasks.loc[lost, "diverged_step"] = 345
    ax = online_accuracy(tasks).axes[0]
    np.testing.assert_allclose(line(ax, "sassha").get_ydata()[3:], [0.57, 0.56, 0.55])  # seed 0 alone
    assert line(ax, "_diverged").get_xdata()[0] == 3
    assert [text.get_text() for text in ax.texts] == ["diverged"]


def test_the_curve_marks_the_first_bin_without_a_finite_loss(online):
    online.loc[(online["run"] == "sassha") & (online["step"] >= 150), "loss"] = np.nan
    ax = online_curve(online).axes[0]
    assert [one.get_xdata()[0] for one in ax.get_lines() if one.get_label() == "_diverged"] == [150]


def test_all_nan_is_an_empty_curve(tasks):
    tasks[["online_accuracy", "online_loss"]] = np.nan
    figure = online_accuracy(tasks)
    figure.canvas.draw()
    assert all(np.isnan(line.get_ydata()).all() for line in figure.axes[0].get_lines() if len(line.get_ydata()))


def test_runs_of_one_label_with_another_step_size_are_told_apart(tasks):
    tasks.loc[tasks["run"] == "sassha-1", "lr"] = 0.01
    labels = {one.get_label() for one in online_accuracy(tasks).axes[0].get_lines()}
    assert {"sassha (lr 0.1)", "sassha (lr 0.01)", "sgd", "sassha + sdp"} <= labels


def test_online_curve_runs_over_steps(online):
    ax = online_curve(online).axes[0]
    sassha = line(ax, "sassha")
    np.testing.assert_allclose(sassha.get_xdata(), 25 * np.arange(1, 13))
    np.testing.assert_allclose(sassha.get_ydata(), [0.05, 0.25, 0.45, 0.65] * 3)
    borders = [one.get_xdata()[0] for one in ax.get_lines() if one.get_color() == "#c8c8c8"]
    assert borders == [100, 200]


def test_within_task_counts_the_examples_of_each_task(online):
    figure = within_task(online, tasks=[0, -1])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["sgd", "sassha"]
    last = line(figure.axes[1], "task 2")
    np.testing.assert_allclose(last.get_xdata(), [400, 800, 1200, 1600])
    np.testing.assert_allclose(last.get_ydata(), [0.05, 0.25, 0.45, 0.65])
    assert len(figure.axes[0].get_lines()) == 2


def test_within_task_of_a_regression_shows_the_loss(online):
    figure = within_task(online.assign(accuracy=np.nan), tasks=[1])
    np.testing.assert_allclose(line(figure.axes[0], "task 1").get_ydata(), [2.0, 1.9, 1.8, 1.7])


@pytest.mark.parametrize(
    ("change", "message"), [(lambda t: t.drop(columns="task"), "'task'"), (lambda t: t[:0], "no rows")]
)
def test_an_unusable_table_is_one_clear_line(tasks, change, message):
    with pytest.raises(UserError, match=message):
        online_accuracy(change(tasks))


def test_figures_show_themselves_and_leave_matplotlib_as_it_was(tasks):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    figure = online_accuracy(tasks)
    assert isinstance(figure, Figure)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
    data, size = figure._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size["width"] == 810
