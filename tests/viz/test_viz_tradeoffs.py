import numpy as np
import pandas as pd
import pytest

from lop.runs import Results
from lop.utils.errors import UserError
from lop.viz import (
    cost_and_result,
    first_moves,
    latex_table,
    markdown_table,
    online_accuracy,
    order_of_moves,
    sensitivity,
    sensitivity_table,
    summary_table,
)


def timing_of(tasks: pd.DataFrame, seconds: dict[str, float]) -> pd.DataFrame:
    table = tasks[["run", "label", "seed", "task"]].copy()
    table["diagnostics_seconds"], table["session"] = 0.5, "s1"
    table["seconds"] = table["label"].map(seconds) + 0.5
    return table


@pytest.fixture
def results(tasks) -> Results:
    return Results(tasks=tasks, timing=timing_of(tasks, {"sgd": 2.0, "sassha": 5.0, "sassha + sdp": 6.0}))


def test_summary_puts_performance_next_to_cost(results):
    table = summary_table(results, window=2)
    row = table.loc["sassha"]  # 0.60, 0.59, ..., 0.55, the other seed 0.02 above
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx(0.585)
    assert row["worst"] == pytest.approx(0.56)
    assert row["change"] == pytest.approx(-0.04)
    assert (row["low"], row["high"]) == (pytest.approx(-0.04), pytest.approx(-0.04))  # the same in both seeds
    assert row["cost"] == pytest.approx(2.5)
    assert table.loc["sgd", "cost"] == 1.0
    assert "cost" not in summary_table(results, baseline="adam")


def test_the_same_seed_twice_is_one_sample(results):
    again = results.tasks[results.tasks["run"] == "sassha-1"].assign(run="sassha-1-again")
    twice = Results(tasks=pd.concat([results.tasks, again]), timing=results.timing)
    table, once = summary_table(twice), summary_table(results)
    assert table.loc["sassha", "seeds"] == 2
    pd.testing.assert_frame_equal(table, once)
    single = Results(tasks=twice.tasks[twice.tasks["seed"] == 1], timing=results.timing)
    assert np.isnan(summary_table(single).loc["sassha", "low"])  # no interval from one seed under two names
    assert "over 2 seeds" in online_accuracy(twice.tasks).axes[0].get_title(loc="left")


def test_the_table_says_over_which_tasks_it_is(results):
    """Early and late are the same tasks for all, however far the others have come."""
    tasks = results.tasks
    partial = tasks[(tasks["label"] != "sgd") | (tasks["task"] < 4)]
    table = summary_table(Results(tasks=partial, timing=results.timing))
    assert table["tasks"].to_dict() == {"sassha + sdp": "0-3 of 6", "sassha": "0-3 of 6", "sgd": "0-3 of 4"}
    assert set(table["windows"]) == {"early 0, late 3"}
    apart = tasks[(tasks["label"] == "sgd") ^ (tasks["task"] < 3)]
    with pytest.raises(UserError, match="no task was finished by all"):
        summary_table(Results(tasks=apart, timing=results.timing))


def test_timings_of_another_session_are_marked(results):
    timing = results.timing.copy()
    timing.loc[timing["label"] == "sassha", ["seconds", "session"]] = [10.5, "s2"]  # a busy machine, another day
    table = summary_table(Results(tasks=results.tasks, timing=timing))
    assert table["comparable"].to_dict() == {"sassha + sdp": True, "sassha": False, "sgd": True}
    rows = {line.split(" | ")[0].strip("| "): line for line in markdown_table(table).splitlines()}
    assert rows["sassha"].endswith("~5 |")
    assert rows["sassha + sdp"].endswith("| 3 |")
    plain = timing[timing["label"] == "sgd"].assign(session="s2", seconds=4.5)  # SGD was timed there, too
    table = summary_table(Results(tasks=results.tasks, timing=pd.concat([timing, plain])))
    assert table.loc["sassha", "cost"] == pytest.approx(10.0 / 4.0)
    assert table["comparable"].all()
    busy = timing.assign(session="s1", load=np.where(timing["label"] == "sassha", 2.0, 0.5))
    assert not summary_table(Results(tasks=results.tasks, timing=busy)).loc["sassha", "comparable"]


def test_worst_of_a_loss_is_the_highest(regression_tasks):
    timing = timing_of(regression_tasks, {"sgd": 1.0, "sassha": 1.0, "sassha + sdp": 1.0})
    table = summary_table(Results(tasks=regression_tasks, timing=timing))
    assert table.loc["sgd", "worst"] == pytest.approx(np.mean([1 - 0.45, 1 - 0.47]))


def test_cost_figure_shows_multiples_of_the_baseline(results):
    figure = cost_and_result(results)
    points = {bar.get_label(): bar.lines[0].get_xdata()[0] for bar in figure.axes[0].containers}
    assert points == {"sgd": pytest.approx(1.0), "sassha": pytest.approx(2.5), "sassha + sdp": pytest.approx(3.0)}
    late = {bar.get_label(): bar.lines[0].get_ydata()[0] for bar in figure.axes[1].containers}
    assert late["sgd"] == pytest.approx(0.46)  # the last task
    with pytest.raises(UserError, match="'adam'; baseline: one of"):
        cost_and_result(results, baseline="adam")


def test_sensitivity_is_a_line_per_method_over_the_values(tasks):
    swept = []
    for value in (0.01, 0.1, 1.0):
        better = tasks.assign(lr=value, run=tasks["run"] + f"-{value}")
        swept.append(better.assign(online_accuracy=better["online_accuracy"] - (value == 1.0) * 0.2))
    swept = pd.concat(swept)
    values = swept.drop_duplicates("run").set_index("run")["lr"]
    table = sensitivity_table(swept, values).set_index(["label", "value"])
    assert table.loc[("sgd", 0.1), "mean"] == pytest.approx(0.485)
    assert table.loc[("sgd", 1.0), "mean"] == pytest.approx(0.285)
    assert table.loc[("sgd", 1.0), "error"] == pytest.approx(0.01)
    ax = sensitivity(swept, values).axes[0]
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert [line.get_label() for line in ax.get_lines()] == ["sassha", "sassha + sdp", "sgd"]
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), [0.01, 0.1, 1.0])
    with pytest.raises(UserError, match="two values"):
        sensitivity_table(tasks, tasks.drop_duplicates("run").set_index("run")["lr"])


def moving(change_at: dict[str, int], tasks: int = 30) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    columns = {"eff_rank_after": "eff_rank", "dormant_proportion_after": "dormant", "online_accuracy": "accuracy"}
    table = {"task": range(tasks), "run": "a", "label": "sgd"}
    for column, name in columns.items():
        step = np.arange(tasks) >= change_at.get(name, tasks)
        sign = 1 if name == "dormant" else -1
        table[column] = 0.5 + 0.01 * generator.normal(size=tasks) + 0.2 * sign * step
    return pd.DataFrame(table)


def test_first_moves_finds_when_and_where_to():
    table = first_moves(moving({"dormant": 10, "accuracy": 20})).set_index("metric")
    assert table.loc["dormant_proportion", "task"] == pytest.approx(10, abs=1)
    assert table.loc["dormant_proportion", "direction"] == 1
    assert table.loc["performance", "task"] == pytest.approx(20, abs=1)
    assert table.loc["performance", "direction"] == -1
    assert np.isnan(table.loc["eff_rank", "task"])
    assert table.loc["eff_rank", "moved"] == 0


def test_a_value_that_comes_back_has_not_moved():
    table = moving({"dormant": 10})
    table.loc[table["task"] >= 20, "dormant_proportion_after"] -= 0.2
    assert np.isnan(first_moves(table).set_index("metric").loc["dormant_proportion", "task"])


def test_order_of_moves_lists_what_moved_earliest_first():
    ax = order_of_moves(moving({"dormant": 15, "eff_rank": 8, "accuracy": 20})).axes[0]
    assert "rank" in ax.get_yticklabels()[0].get_text().lower()
    assert len(ax.get_yticks()) == 2
    with pytest.raises(UserError, match="nothing has moved"):
        order_of_moves(moving({}))


def test_tables_in_markdown_and_latex(results):
    table = summary_table(results, window=2)[["seeds", "mean", "change", "low", "high"]]
    table.loc["sgd", ["low", "high"]] = np.nan
    table = table.rename(index={"sassha + sdp": "sassha_sdp"})
    lines = markdown_table(table).splitlines()
    assert lines[0] == "| label | seeds | mean | change |"
    assert "| sgd | 2 | 0.485 | -0.040 |" in lines
    assert "| sassha | 2 | 0.585 | -0.040 [-0.040, -0.040] |" in lines
    latex = latex_table(table)
    assert latex.startswith("\\begin{tabular}{lrrr}")
    assert r"sassha\_sdp & 2 & 0.685 & -0.040 [-0.040, -0.040] \\" in latex
