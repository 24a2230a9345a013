"""Tables of the notebooks."""

import math

import pandas as pd
import pytest

from lop.notebook import plan, run_methods
from lop.notebook.tables import by_task, comparison, hard_tasks, only, option, relabelled, summary
from lop.runs import Results, load
from lop.utils.errors import UserError


def results_of(accuracies: dict[str, float], seconds: dict[str, float], tasks: int = 5, **more: float) -> Results:
    """The last task is 0.1 worse; a run per label."""
    rows, timing = [], []
    for label, accuracy in accuracies.items():
        for task in range(tasks):
            row = {"run": label, "label": label, "task": task}
            rows.append(row | {"online_accuracy": accuracy - 0.1 * (task == tasks - 1), "online_loss": 1.0, **more})
            timing.append(row | {"seconds": seconds[label], "diagnostics_seconds": 1.0, "session": "s1"})
    return Results(tasks=pd.DataFrame(rows), timing=pd.DataFrame(timing))


@pytest.fixture
def two() -> Results:
    return results_of({"sgd": 0.5, "sassha": 0.8}, {"sgd": 2.0, "sassha": 5.0})


def test_comparison_puts_the_cost_next_to_the_result(two):
    table = comparison(two)
    assert list(table.index) == ["sgd", "sassha"]
    assert table.loc["sassha", "cost (sgd = 1)"] == "4.00"  # (5 - 1) / (2 - 1)
    assert table.loc["sassha", "change"] == pytest.approx(-0.1)
    assert math.isclose(table.loc["sgd", "mean"], 0.48)


def test_comparison_names_what_was_reached():
    trained = results_of({"sgd": 0.5}, {"sgd": 2.0}, train_acc_after=0.75)
    assert comparison(trained).loc["sgd", "training accuracy, last tasks"] == 0.75


def test_summary_is_rounded_and_drops_a_final_value_that_is_the_late_one(two):
    lines = summary(two).data.splitlines()
    assert lines[0] == "| label | seeds | tasks | windows | mean | worst | early | late | change | seconds | cost |"
    assert "| sassha | 1 | 0-4 of 5 | early 0, late 4 | 0.780 | 0.700 | 0.800 | 0.700 | -0.100 | 4 | 4 |" in lines
    assert " final " in summary(Results(tasks=two.tasks.assign(test_acc_after=0.9), timing=two.timing)).data


def test_a_row_per_task_keeps_a_label_that_has_only_nan(two):
    tasks = two.tasks.assign(policy_kl=[0.25 if label == "sgd" else math.nan for label in two.tasks["label"]])
    table = by_task(Results(tasks=tasks), ["policy_kl", "not_measured"])
    assert list(table.columns) == [("policy_kl", "sgd"), ("policy_kl", "sassha")]
    assert table["policy_kl", "sgd"].tolist() == [0.25] * 5
    assert table["policy_kl", "sassha"].isna().all()


def test_rows_come_in_the_order_of_the_labels(two):
    tasks = relabelled(two, {"sassha": "mine", "sgd": "plain"}).tasks
    assert list(tasks["label"]) == ["mine"] * 5 + ["plain"] * 5
    assert list(tasks["task"]) == [*range(5), *range(5)]


def test_hard_tasks_are_the_even_ones(two):
    hard = hard_tasks(two)
    assert set(hard.tasks["task"]) == set(hard.timing["task"]) == {0, 2, 4}


def test_methods_come_as_asked_for_without_summaries(tmp_path, capsys):
    small = {"benchmark.num_tasks": 1, "benchmark.epochs": 1, "net.hidden": [4], "run.results_dir": str(tmp_path)}
    small |= {"run.device": "cpu", "run.diagnostics": False}
    results = run_methods("permuted_digits", ["bp", "adam"], overrides=small)
    assert list(results.tasks["label"]) == ["bp", "adam"]
    printed = capsys.readouterr().out
    assert "Summary" not in printed
    assert "Data: digits" in printed
    assert "earlier" not in printed
    run_methods("permuted_digits", ["bp"], overrides=small)
    assert "bp: finished earlier, not trained again" in capsys.readouterr().out


def test_options_of_runs_and_their_rows(tmp_path):
    configs = [plan(baseline=False, lr=lr, results_dir=str(tmp_path))[0] for lr in (0.5, 0.25)]
    for config in configs:
        folder = tmp_path / config.run_name()
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config.model_dump_json())
    first, second = configs
    results = load(tmp_path)
    values = option(results.runs, "optimizer.lr")
    assert values[first.run_name()] == 0.5
    assert values[second.run_name()] == 0.25
    assert list(only(results, [first.run_name()]).runs["lr"]) == [0.5]
    with pytest.raises(UserError, match=r"optimizer\.nothing"):
        option(results.runs, "optimizer.nothing")
