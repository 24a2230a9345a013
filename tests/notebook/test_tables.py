"""Tables of the notebooks."""

import math

import pandas as pd
import pytest

from lop.notebook import plan, run_methods
from lop.notebook.tables import by_task, hard_tasks, only, option, relabelled, summary
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


def test_the_summary_has_cost_beside_performance_in_the_order_of_the_runs(two):
    lines = summary(two).data.splitlines()
    columns = ["method", "seeds", "tasks", "online accuracy", "early", "late", "change", "worst task"]
    columns += ["seconds per task", "cost (sgd = 1)"]
    assert lines[0] == f"| {' | '.join(columns)} |"
    assert lines[2:4] == [
        "| sgd | 1 | 0-4 of 5 | 48.0% | 50.0% | 40.0% | -10.0 pp | 40.0% | 1 | 1 |",
        "| sassha | 1 | 0-4 of 5 | 78.0% | 80.0% | 70.0% | -10.0 pp | 70.0% | 4 | 4 |",  # (5 - 1) / (2 - 1)
    ]


def test_the_summary_says_what_its_columns_mean(two):
    said = summary(two).data.split("\n\n")[1]
    assert "(early 0, late 4)" in said
    assert "as a multiple of that of sgd" in said
    assert "final" not in said  # the late one, where nothing else is measured
    assert "~" not in said
    apart = two.timing.assign(session=["s1"] * 5 + ["s2"] * 5)
    marked = summary(Results(tasks=two.tasks, timing=apart)).data
    assert "| ~4 |" in marked
    assert "~: not timed in one session" in marked
    trained = results_of({"sgd": 0.5}, {"sgd": 2.0}, train_acc_after=0.75)
    assert "*final training accuracy*: after the late tasks" in summary(trained).data
    assert "| final training accuracy |" in summary(trained).data
    assert " 75.0% |" in summary(trained).data
    losses = two.tasks.drop(columns="online_accuracy")
    said = summary(Results(tasks=losses, timing=two.timing)).data
    assert "above zero is lost plasticity" in said
    assert "percentage" not in said
    assert "| sgd | 1 | 0-4 of 5 | 1 | 1 | 1 | +0.000 | 1 |" in said


def test_a_row_per_task_keeps_a_label_that_has_only_nan(two):
    tasks = two.tasks.assign(policy_kl=[0.25 if label == "sgd" else math.nan for label in two.tasks["label"]])
    table = by_task(Results(tasks=tasks), ["policy_kl", "online_accuracy", "not_measured"])
    names = ["policy_kl", "Online accuracy"]  # a measure that nobody describes keeps its name
    assert list(table.columns) == [(name, label) for name in names for label in ("sgd", "sassha")]
    assert table["policy_kl", "sgd"].tolist() == ["0.250"] * 5
    assert table["policy_kl", "sassha"].tolist() == ["-"] * 5
    assert table["Online accuracy", "sassha"].tolist() == ["80.0%"] * 4 + ["70.0%"]


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
