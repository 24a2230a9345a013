"""Figures of a study: what is drawn is what the tables say."""

import json

import numpy as np
import pandas as pd
import pytest

from lop import viz
from lop.utils.errors import UserError


def comparison(**changes) -> pd.DataFrame:
    rows = []
    for i, method in enumerate(("sgd", "adam", "sassha")):
        row = {"benchmark": "digits", "method": method, "seeds": 5, "measure": "online_accuracy"}
        for j, name in enumerate(("early", "late", "mean", "equal_time", "change")):
            value = 0.5 + 0.1 * i - 0.01 * j
            row |= {name: value, f"{name}_low": value - 0.02, f"{name}_high": value + 0.03}
        rows.append({**row, **changes})
    return pd.DataFrame(rows)


def test_the_best_method_is_on_top_with_its_interval():
    figure = viz.study_scores(comparison(), reference="sgd")
    assert [ax.get_title("left") for ax in figure.axes] == [
        "Early tasks",
        "Late tasks",
        "All tasks",
        "All tasks, equal time",
    ]
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["sassha", "adam", "sgd"]
    top = first.containers[0]
    assert top[0].get_xdata()[0] == pytest.approx(0.7)
    (segments,) = (line.get_segments() for line in top[2])
    assert segments[0][:, 0] == pytest.approx([0.68, 0.73])
    assert any(line.get_linestyle() == "--" and line.get_xdata()[0] == 0.5 for line in first.get_lines())


def test_changes_are_in_points_and_losses_the_other_way_round():
    figure = viz.study_changes(comparison())
    assert figure.axes[0].containers[0][0].get_xdata()[0] == pytest.approx(66)
    assert "percentage points (left of 0: plasticity lost)" in figure.axes[0].get_xlabel()
    worse = viz.study_changes(comparison(measure="online_loss"))
    assert "(right of 0: plasticity lost)" in worse.axes[0].get_xlabel()
    assert [label.get_text() for label in worse.axes[0].get_yticklabels()] == ["sgd", "adam", "sassha"]


def tuning() -> pd.DataFrame:
    rows = []
    for method, best in (("sgd", 0.3), ("adam", 0.01)):
        for lr in (0.01, 0.1, 0.3):
            for rate in (1, 2):
                chosen = lr == best and rate == 2
                row = {"benchmark": "digits", "method": method, "setting": json.dumps({"optimizer.lr": lr, "k": rate})}
                row |= {"mean": 0.5 + 0.1 * chosen + 0.01 * rate, "low": 0.4, "high": 0.8, "chosen": chosen}
                rows.append({**row, "at_edge": "optimizer.lr" if chosen else ""})
    return pd.DataFrame(rows)


def test_a_curve_per_method_with_the_chosen_point_and_the_edges():
    figure = viz.tuning_curves(tuning())
    assert [ax.get_title("left") for ax in figure.axes] == ["sgd", "adam"]
    curve = figure.axes[0].containers[0][0]
    assert curve.get_xdata() == pytest.approx([0.01, 0.1, 0.3])
    assert curve.get_ydata() == pytest.approx([0.52, 0.52, 0.62])  # the best over the other key
    (ring,) = [line for line in figure.axes[1].get_lines() if line.get_markerfacecolor() == "none"]
    assert ring.get_xdata() == pytest.approx([0.01])
    assert ring.get_color() == "#D55E00"  # at the edge
    assert figure.axes[0].get_xscale() == "log"
    with pytest.raises(UserError, match="nothing was tuned"):
        viz.tuning_curves(tuning().assign(setting="{}"))


def runs() -> pd.DataFrame:
    rows = []
    for benchmark, measure, sign in (("a", "online_accuracy", 1.0), ("b", "online_loss", -1.0)):
        for method, value in (("good", 0.8), ("bad", 0.4)):
            for seed in range(3):
                swapped = benchmark == "a" and seed == 2
                mean = sign * (1.2 - value if swapped else value)
                row = {"benchmark": benchmark, "method": method, "purpose": "evaluation", "seed": seed}
                rows.append({**row, "measure": measure, "mean": mean})
    tuned = {**rows[0], "purpose": "tuning", "mean": 99.0}
    return pd.DataFrame([*rows, tuned])


def test_scores_are_scaled_on_their_benchmark_and_ranked_among_one_seed():
    scores = viz.scaled_scores(runs())
    assert len(scores) == 12  # no tuning run
    means = scores.groupby(["benchmark", "method"])["scaled"].mean()
    assert means["a", "good"] == pytest.approx(1.0)
    assert means["b", "bad"] == pytest.approx(0.0)  # of a loss the higher one
    ranks = scores.set_index(["benchmark", "method", "seed"])["rank"]
    assert (ranks["a", "good", 0], ranks["a", "good", 2], ranks["b", "good", 2]) == (1.0, 2.0, 1.0)


def test_ranks_and_profiles():
    figure = viz.study_ranks(runs())
    profile, rank = figure.axes
    good = next(line for line in profile.get_lines() if line.get_label() == "good")
    assert good.get_ydata()[0] == 1.0  # all runs are at or above the lowest score
    assert [label.get_text() for label in rank.get_yticklabels()] == ["good", "bad"]
    assert rank.containers[0][0].get_xdata()[0] == pytest.approx(7 / 6)
    assert np.all(np.diff(good.get_ydata()) <= 0)
    with pytest.raises(UserError, match="fewer than two methods"):
        viz.study_ranks(runs()[lambda table: table["method"] == "good"])
    with pytest.raises(UserError, match="no run of the evaluation"):
        viz.study_scores(comparison(seeds=0))


def test_a_method_has_one_colour_in_all_figures():
    methods = ["sgd", "adam", "sassha"]
    names = [(m, seed) for m in methods for seed in range(2)]
    table = pd.DataFrame(
        [
            {"benchmark": "digits", "method": m, "purpose": "evaluation", "seed": seed, "measure": "online_accuracy"}
            | {"mean": 0.5 + 0.1 * methods.index(m) + 0.01 * seed}
            for m, seed in names
        ]
    )
    tasks = pd.DataFrame(
        [{"label": m, "run": f"{m}{s}", "seed": s, "task": t, "online_accuracy": 0.5} for m, s in names for t in (0, 1)]
    )
    top_to_bottom = ["sassha", "adam", "sgd"]
    scores = viz.study_scores(comparison(), reference="sgd").axes[0]
    dots = {name: one[0].get_color() for name, one in zip(top_to_bottom, scores.containers, strict=True)}
    ranks = viz.study_ranks(table, reference="sgd").axes[1]
    assert {name: one[0].get_color() for name, one in zip(top_to_bottom, ranks.containers, strict=True)} == dots
    some = tasks[tasks["label"] != "adam"]  # where not all are drawn
    curves = viz.online_accuracy(some, baselines=["sgd"], among=methods).axes[0].get_lines()
    assert {line.get_label(): line.get_color() for line in curves} == {m: dots[m] for m in ("sgd", "sassha")}


@pytest.mark.parametrize("draw", [viz.online_accuracy, viz.online_curve], ids=["tasks", "steps"])
def test_a_long_legend_covers_no_curve(draw):
    rows = [
        {
            "label": f"m{i}",
            "run": f"m{i}",
            "seed": 0,
            "task": t,
            "bin": 0,
            "step": t,
            "online_accuracy": 0.5,
            "accuracy": 0.5,
        }
        for i in range(9)
        for t in range(3)
    ]
    table = pd.DataFrame(rows)
    few, many = draw(table[table["label"].isin(["m0", "m1"])]), draw(table)
    assert few.axes[0].get_legend() is not None
    many.canvas.draw()
    (legend,) = many.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"m{i}" for i in range(9)]
    panel = many.axes[0].get_tightbbox()
    assert many.axes[0].get_legend() is None
    assert legend.get_window_extent().y1 <= panel.y0
    assert panel.height == pytest.approx(few.axes[0].get_tightbbox().height, rel=0.1)  # not at the panel's cost
