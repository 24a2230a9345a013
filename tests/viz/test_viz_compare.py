import numpy as np
import pytest
from scipy.stats import spearmanr

from lop.viz import compare_optimizers, diagnostics_vs_accuracy, predictive_power, run_scores, spearman_interval
from lop.viz.compare import common_tasks
from lop.viz.measures import measure_of


def test_scores_of_a_run(tasks):
    scores = run_scores(tasks, window=2).set_index("run")
    row = scores.loc["sassha-0"]  # 0.60, 0.59, ..., 0.55
    assert row["mean"] == pytest.approx(0.575)
    assert row["early"] == pytest.approx(0.595)
    assert row["late"] == pytest.approx(0.555)
    assert row["change"] == pytest.approx(-0.04)
    assert row["final"] == pytest.approx(0.605)  # test accuracy is 0.05 above


def test_only_tasks_that_all_runs_have_are_compared(tasks):
    shorter = tasks[~((tasks["run"] == "sgd-1") & (tasks["task"] >= 3))]
    scores = run_scores(shorter, window=1).set_index("run")
    assert scores.loc["sassha-0", "mean"] == pytest.approx(0.59)
    assert scores.loc["sassha-0", "late"] == pytest.approx(0.58)


def test_comparison_draws_means_errors_and_early_to_late(tasks):
    figure = compare_optimizers(tasks, window=2)
    average, final, change = figure.axes
    assert [tick.get_text() for tick in average.get_yticklabels()] == ["sassha", "sassha + sdp", "sgd"]
    bar = average.containers[0]
    mean, (segments,) = bar.lines[0], [part.get_segments() for part in bar.lines[2]]
    assert mean.get_xdata()[0] == pytest.approx(0.585)
    np.testing.assert_allclose(sorted(segments[0][:, 0]), [0.575, 0.595])  # 95% bootstrap: all that two seeds have
    assert final.containers[0].lines[0].get_xdata()[0] == pytest.approx(0.615)
    early, late = change.containers[:2]
    assert early.lines[0].get_xdata()[0] == pytest.approx(0.605)
    assert late.lines[0].get_xdata()[0] == pytest.approx(0.565)
    assert early.lines[0].get_markerfacecolor() == "white"


def test_comparison_of_single_seeds_of_regressions_and_of_diverged_runs(tasks, regression_tasks):
    single = compare_optimizers(tasks[tasks["seed"] == 0])
    assert single.axes[0].containers[0].lines[2] == ()
    for ax in single.axes:  # without an interval nothing is zoomed
        assert ax.get_xlim()[0] <= 0
        assert ax.get_xlim()[1] >= 1
    loss = compare_optimizers(regression_tasks[regression_tasks["seed"] == regression_tasks["seed"].iloc[0]])
    assert loss.axes[0].get_xlim()[0] <= 0
    assert "loss" in compare_optimizers(regression_tasks).axes[0].get_title(loc="left")
    tasks.loc[tasks["label"] == "sassha", ["online_accuracy", "test_acc_after"]] = np.nan
    figure = compare_optimizers(tasks)
    figure.canvas.draw()
    assert "diverged" in [text.get_text() for text in figure.axes[0].texts]


def test_spearman_agrees_with_scipy_and_its_interval_holds_it():
    generator = np.random.default_rng(3)
    x = generator.normal(size=60)
    pairs = np.stack([x, 0.7 * x + generator.normal(size=60)], axis=1)
    rho, low, high = spearman_interval([pairs])
    assert rho == pytest.approx(spearmanr(*pairs.T).statistic)
    assert low < rho < high
    assert 0.1 < high - low < 0.8
    assert spearman_interval([pairs]) == (rho, low, high)  # its own generator


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    misses = 0
    for _ in range(150):
        low, high = spearman_interval([generator.normal(size=(80, 2))], resamples=300)[1:]
        misses += not low <= 0 <= high
    assert 1 <= misses <= 20  # 5% of 150 is 7.5; block bootstrap intervals are a little narrow


def test_interval_is_wider_for_tasks_that_resemble_their_neighbours():
    generator = np.random.default_rng(1)
    slow = np.cumsum(generator.normal(size=(100, 2)), axis=0)
    mixed = generator.permutation(slow)
    slow_width, mixed_width = (np.ptp(spearman_interval([pairs])[1:]) for pairs in (slow, mixed))
    assert slow_width > 1.2 * mixed_width


@pytest.mark.parametrize("pairs", [np.ones((10, 2)), np.full((10, 2), np.nan), np.zeros((2, 2))])
def test_no_correlation_where_there_is_none_to_compute(pairs):
    assert np.isnan(spearman_interval([pairs])).all()


def test_predictive_power_pairs_the_start_of_a_task_with_its_own_accuracy(tasks):
    table = predictive_power(tasks[tasks["seed"] == 0], metrics=["eff_rank", "stable_rank"])
    table = table.set_index(["label", "metric"])
    assert table.loc[("sassha", "eff_rank"), "rho"] == pytest.approx(1.0)  # 20 + 100 * accuracy
    accuracy, stable = 0.6 - 0.01 * np.arange(6), 5 + np.arange(6) % 3
    assert table.loc[("sassha", "stable_rank"), "rho"] == pytest.approx(spearmanr(accuracy, stable).statistic)


def test_figure_lists_every_diagnostic_and_shows_the_two_strongest(tasks):
    figure = diagnostics_vs_accuracy(tasks)
    forest, first, _ = figure.axes
    names = [tick.get_text() for tick in forest.get_yticklabels()]
    assert measure_of("eff_rank").label in names
    assert measure_of("ntk_churn").label not in names  # not measured before a task
    assert measure_of("test_acc").label not in names  # performance itself
    assert measure_of("eff_rank").label in first.get_xlabel()
    constant = names.index(measure_of("dormant_proportion").label)
    notes = [text for text in forest.texts if "constant" in text.get_text()]
    assert -constant in [note.xy[1] for note in notes]


def test_tasks_that_one_run_lacks_are_left_out_wherever_they_are(tasks):
    even = tasks[tasks["task"] % 2 == 0]
    assert set(common_tasks(even)["task"]) == {0, 2, 4}
    scores = run_scores(even).set_index("run")
    assert scores.loc["sassha-0", "late"] == pytest.approx(0.56)  # a fifth of three tasks is one: task 4
    assert set(common_tasks(even[~((even["run"] == "sgd-0") & (even["task"] == 2))])["task"]) == {0, 4}


def test_what_is_final_where_there_is_no_test_set(tasks):
    tasks = tasks.assign(train_acc_after=0.9, test_acc_after=np.nan)
    assert run_scores(tasks)["final"].tolist() == pytest.approx([0.9] * 6)
    figure = compare_optimizers(tasks)
    assert figure.axes[1].get_title(loc="left") == "Final training accuracy"
    assert "diverged" not in [text.get_text() for text in figure.axes[1].texts]


def test_a_tiny_difference_is_not_blown_up_to_the_width_of_the_panel(tasks):
    tasks = tasks.assign(test_acc_after=0.95 + 0.001 * (tasks["label"] == "sgd"))
    low, high = compare_optimizers(tasks).axes[1].get_xlim()
    assert high - low == pytest.approx(0.02)
    assert low < 0.95 < 0.951 < high
