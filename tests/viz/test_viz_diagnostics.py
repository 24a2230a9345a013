import numpy as np
import pandas as pd
import pytest

from lop.metrics import CORE, METRICS
from lop.utils.errors import UserError
from lop.viz import dashboard_grid, dormant_heatmap, layer_ranks, ntk_spectrum
from lop.viz.measures import measure_of


def panel(figure, name):
    wanted = measure_of(name).label
    return next(ax for ax in figure.axes if ax.get_title(loc="left").rstrip(" ↑↓") == wanted)


def line(ax, label):
    return next(one for one in ax.get_lines() if one.get_label() == label)


def test_grid_has_a_panel_per_measured_diagnostic_with_before_and_after(tasks):
    figure = dashboard_grid(tasks)
    shown = [ax.get_title(loc="left").rstrip(" ↑↓") for ax in figure.axes if ax.get_title(loc="left")]
    measured = {"eff_rank", "ntk_cond", "ntk_churn", "stable_rank", "dormant_proportion", "test_acc"}
    assert shown == [measure_of(name).label for name in CORE if name in measured]
    ax = panel(figure, "eff_rank")
    np.testing.assert_allclose(line(ax, "sassha").get_ydata(), 10 - np.arange(6))
    np.testing.assert_allclose(line(ax, "sassha, before").get_ydata(), 20 + 100 * (0.61 - 0.01 * np.arange(6)))
    assert line(ax, "sassha, before").get_linestyle() == ":"
    assert ax.get_title(loc="left").endswith("↑")


def test_grid_scales_follow_the_kind_of_value(tasks):
    figure = dashboard_grid(tasks)
    assert panel(figure, "ntk_cond").get_yscale() == "log"
    assert panel(figure, "eff_rank").get_yscale() == "linear"
    assert panel(figure, "dormant_proportion").yaxis.get_major_formatter()(0.5, 0) == "50%"
    figure.canvas.draw()
    assert all(tick == int(tick) for tick in panel(figure, "stable_rank").get_yticks())


def test_a_loss_that_reaches_zero_keeps_its_scale(tasks):
    tasks["loss_after"] = 10.0 ** -tasks["task"] * (tasks["task"] < 5)
    figure = dashboard_grid(tasks)
    scale = panel(figure, "loss").yaxis.get_transform()
    decades = np.diff(scale.transform([1e-4, 1e-3, 1e-2, 1e-1, 1.0]))
    np.testing.assert_allclose(decades, decades[0], rtol=1e-6)
    assert 0 < scale.transform([1e-4])[0] - scale.transform([0.0])[0] <= 0.6 * decades[0]  # zero is on the axis
    assert panel(figure, "loss").get_ylim()[0] == 0


def test_grid_bands_only_where_seeds_differ_in_number(tasks):
    single = dashboard_grid(tasks[tasks["seed"] == 0], metrics=["eff_rank"], phases=["before"])
    several = dashboard_grid(tasks, metrics=["eff_rank"], phases=["before"])
    assert len(panel(single, "eff_rank").collections) == 0
    assert len(panel(several, "eff_rank").collections) == 3


def test_legend_takes_an_empty_cell_or_goes_below(tasks):
    full, spare = dashboard_grid(tasks, metrics=["eff_rank"] * 3), dashboard_grid(tasks, metrics=["eff_rank"] * 2)
    assert (len(full.axes), len(full.legends)) == (3, 1)
    assert (len(spare.axes), len(spare.legends)) == (3, 0)
    assert spare.axes[2].get_legend() is not None


def test_grid_leaves_out_what_is_only_nan(regression_tasks):
    titles = [ax.get_title(loc="left") for ax in dashboard_grid(regression_tasks, phases=["after"]).axes]
    assert not any(measure_of("test_acc").label in title for title in titles)


def test_grid_refuses_unknown_and_unmeasured_metrics(tasks):
    with pytest.raises(UserError, match="did you mean 'eff_rank'"):
        dashboard_grid(tasks, metrics=["efrank"])
    with pytest.raises(UserError, match="no values of 'approx_rank'"):
        dashboard_grid(tasks, metrics=["approx_rank"])


def test_layer_ranks_draws_each_layer_of_each_label(layers):
    figure = layer_ranks(layers)
    figure.canvas.draw()
    grid = np.reshape(figure.axes, (2, 3))
    np.testing.assert_allclose(line(grid[0, 0], "hidden1").get_ydata(), [11, 10, 9, 8])
    np.testing.assert_allclose(line(grid[1, 1], "hidden2").get_ydata(), [6, 6, 6, 6])
    np.testing.assert_allclose(line(grid[1, 2], "hidden0").get_ydata(), [4, 4, 4, 4])
    assert [row[0].get_ylabel() for row in grid] == ["sgd", "sassha"]
    assert all(any(tick.get_text() for tick in ax.get_yticklabels()) for ax in grid.flat)


def test_every_diagnostic_has_a_heading_of_its_own():
    """Dohare's and Sokar's dormant units are not the same."""
    headings = [measure_of(name).label for name in METRICS]
    assert len(set(headings)) == len(headings)
    assert (measure_of("dormant_proportion").label, measure_of("tau_dormant").label) == (
        "Dormant units (Dohare)",
        "Tau-dormant units (Sokar)",
    )


def test_layers_without_names_are_numbered_from_the_input(layers):
    figure = layer_ranks(layers.drop(columns="name"), metrics=["eff_rank"])
    np.testing.assert_allclose(line(figure.axes[0], "layer 3").get_ydata(), [12, 11, 10, 9])


def test_heatmap_holds_the_mean_over_seeds_with_the_input_layer_at_the_bottom(layers):
    other = layers.assign(run="again", dormant_proportion=layers["dormant_proportion"] + 0.2)
    figure = dormant_heatmap(layers[layers["label"] == "sgd"])
    both = dormant_heatmap(pd.concat([layers, other]))
    cells = figure.axes[0].collections[0].get_array().reshape(3, 4)
    expected = 0.1 * np.arange(3)[::-1, None] + 0.01 * np.arange(4)[None]
    np.testing.assert_allclose(cells, expected)
    np.testing.assert_allclose(both.axes[0].collections[0].get_array().reshape(3, 4), expected + 0.1)
    limits = {ax.collections[0].get_clim() for ax in both.axes[:2]}
    assert len(limits) == 1  # one colour scale for all labels


def test_nets_of_different_kinds_keep_their_own_layer_names(layers):
    renamed = layers.assign(name=layers["name"].where(layers["label"] == "sgd", "policy" + layers["layer"].astype(str)))
    figure = dormant_heatmap(renamed)
    names = [[tick.get_text() for tick in ax.get_yticklabels()] for ax in figure.axes[:2]]
    assert names == [["hidden2", "hidden1", "hidden0"], ["policy2", "policy1", "policy0"]]
    rows = [ax for ax in layer_ranks(renamed).axes if ax.get_legend() is not None]
    assert [[text.get_text() for text in ax.get_legend().get_texts()] for ax in rows] == [n[::-1] for n in names]
    assert len([ax for ax in layer_ranks(layers).axes if ax.get_legend() is not None]) == 1


def test_heatmap_of_nan_and_of_zero_is_drawn_as_what_it_is(layers):
    for value in (np.nan, 0.0):
        figure = dormant_heatmap(layers.assign(dormant_proportion=value))
        figure.canvas.draw()
        shown = np.ma.filled(figure.axes[0].collections[0].get_array().astype(float), np.nan)
        assert np.array_equal(np.unique(shown), [value], equal_nan=True)


def test_a_wrong_phase_is_refused(layers):
    with pytest.raises(UserError, match=r"phase must be one of .*'after', 'before'.*got 'during'"):
        layer_ranks(layers, phase="during")


def test_spectrum_shows_decay_and_cumulative_energy(spectra):
    figure = ntk_spectrum(spectra, tasks=[0, -1])
    decay, energy = figure.axes
    np.testing.assert_allclose(line(decay, "task 2").get_ydata(), [1, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(line(energy, "task 2").get_ydata(), [0.5, 0.75, 0.875, 1])
    np.testing.assert_allclose(line(decay, "task 0").get_xdata(), [1, 2, 3, 4])
    assert decay.get_yscale() == "log"
    assert len(decay.get_lines()) == 2


def test_spectrum_survives_zero_and_negative_eigenvalues(spectra):
    spectra.loc[spectra["index"] == 3, "value"] = -1e-9
    decay, energy = ntk_spectrum(spectra, tasks=[0]).axes
    np.testing.assert_allclose(line(decay, "task 0").get_ydata(), [1, 0.5, 0.25])
    np.testing.assert_allclose(line(energy, "task 0").get_ydata()[-1], 1)
    with pytest.raises(UserError, match="tasks must name tasks"):
        ntk_spectrum(spectra, tasks=[77])


def test_the_loss_after_a_task_is_not_called_online(tasks):
    tasks = tasks.assign(loss_after=1.0)
    titles = [ax.get_title(loc="left") for ax in dashboard_grid(tasks, metrics=["loss"]).axes]
    assert titles[0].startswith("Training loss")
