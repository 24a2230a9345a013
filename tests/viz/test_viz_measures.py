"""What is in percent, in which direction a measure is good, and how it is written."""

import numpy as np
import pandas as pd
import pytest

from lop.metrics import METRICS
from lop.runs import Results
from lop.utils.errors import UserError
from lop.viz import latex_table, markdown_table, summary_table
from lop.viz.measures import final_measure, measure_of, performance


def test_columns_know_their_unit_and_direction():
    accuracy, loss, kl = (measure_of(name) for name in ("online_accuracy", "online_loss", "policy_kl"))
    assert (accuracy.unit, accuracy.higher_is_better, accuracy.range) == ("%", True, (0, 1))
    assert (loss.unit, loss.higher_is_better) == ("", False)
    assert (kl.unit, kl.higher_is_better, kl.label) == ("", None, "policy_kl")
    for name, metric in METRICS.items():
        for column in (name, f"{name}_before", f"{name}_after") if name != "loss" else ("loss_before", "loss_after"):
            measure = measure_of(column)
            assert measure.label.lower() == metric.label.lower()
            assert measure.higher_is_better is metric.higher_is_better
            assert (measure.unit == "%") == (tuple(metric.range) == (0, 1))


def test_shares_are_written_in_percent_and_their_change_in_points():
    accuracy, loss = measure_of("online_accuracy"), measure_of("online_loss")
    assert accuracy.text(0.93449) == "93.4%"
    assert accuracy.text(1.0) == "100.0%"
    assert loss.text(0.93449) == "0.934"
    assert loss.text(2.0) == "2"
    assert accuracy.text(np.nan) == loss.text(np.inf) == "-"
    assert accuracy.change_text(-0.04, -0.052, -0.0289) == "-4.0 pp [-5.2, -2.9]"
    assert accuracy.change_text(0.04, np.nan, np.nan) == "+4.0 pp"
    assert loss.change_text(0.04, 0.031, 0.0511) == "+0.040 [+0.031, +0.051]"
    assert accuracy.change_text(np.nan, np.nan, np.nan) == "-"


def test_what_performance_is():
    table = pd.DataFrame({"online_accuracy": [np.nan], "online_loss": [1.0], "test_acc_after": [0.5]})
    assert performance(table).column == "online_loss"
    assert final_measure(table).column == "online_loss"
    table["online_accuracy"] = 0.5
    assert performance(table).column == "online_accuracy"
    assert final_measure(table).column == "test_acc_after"
    assert performance(pd.DataFrame({"accuracy": [0.5], "loss": [1.0]}), prefix="").unit == "%"
    with pytest.raises(UserError, match="no performance to plot"):
        performance(pd.DataFrame({"task": [0]}))


def test_tables_hold_fractions_and_are_written_in_percent(tasks):
    timing = tasks[["run", "label", "seed", "task"]].assign(seconds=2.0, diagnostics_seconds=0.5, session="s1")
    table = summary_table(Results(tasks=tasks, timing=timing), window=2)
    assert table.loc["sgd", "mean"] == pytest.approx(0.485)
    assert set(table["measure"]) == {"online_accuracy"}
    row = next(line for line in markdown_table(table).splitlines() if line.startswith("| sgd |"))
    assert "| 48.5% |" in row
    assert "| -4.0 pp [-4.0, -4.0] |" in row
    assert "measure" not in markdown_table(table)
    assert r"48.5\%" in latex_table(table)
