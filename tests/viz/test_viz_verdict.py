"""What the verdict claims, and what it does not."""

import numpy as np
import pandas as pd
import pytest

from lop.viz.verdict import findings, verdict

SPREAD = np.array([0.0, 0.01, -0.01, 0.005, -0.005, 0.002])


def table(start: float, slope: float, label: str, seeds: int = 5, tasks: int = 10, noise: float = 0.1) -> pd.DataFrame:
    """Online accuracy from `start` by `slope` a task; seeds differ by `noise`, in the slope by a little."""
    rows = []
    for seed in range(seeds):
        for task in range(tasks):
            own = slope * (1 + SPREAD[seed])
            value = start + own * task + noise * SPREAD[seed]
            rows.append({"run": f"{label}{seed}", "label": label, "seed": seed, "task": task, "online_accuracy": value})
    return pd.DataFrame(rows)


def both(ours: pd.DataFrame, theirs: pd.DataFrame) -> str:
    return verdict(pd.concat([ours, theirs]), "sgd")


def test_what_is_decided_is_said_with_its_numbers():
    said = both(table(0.8, 0.0, "sassha"), table(0.7, -0.02, "sgd"))
    # mean over 10 tasks: 80% and 70% - 4.5 * 2 pp = 61%; late minus early of two tasks each: -2 pp * 8
    assert "10 tasks, 5 seeds." in said
    assert "**sassha** 80.0% (+19.0 pp [+18.9, +19.1]: better); sgd 61.0%." in said
    assert "From the first 2 tasks to the last 2" in said
    assert "sgd (-16.0 pp [-16.1, -15.9]) **lost plasticity**" in said
    assert "sassha (+0.0 pp [+0.0, +0.0]) did not change as far as these seeds show" in said


def test_of_unlike_tasks_it_says_no_more_than_that_it_got_worse():
    tasks = pd.concat([table(0.8, 0.01, "sassha"), table(0.7, -0.02, "sgd")])
    said = verdict(tasks, "sgd", alike=False)
    assert "got worse" in said
    assert "got better" in said
    assert "plasticity" not in said


def test_an_interval_that_holds_zero_decides_nothing():
    ours = table(0.7, 0.0, "sassha")
    ours["online_accuracy"] += ours["seed"].map(dict(enumerate([0.02, -0.02, 0.01, -0.01, 0.001])))
    assert ": not decided)" in both(ours, table(0.7, 0.0, "sgd"))


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "**One seed decides nothing.**"), (2, "**Two seeds decide nothing.**")]
)
def test_one_or_two_seeds_claim_nothing(seeds, words):
    said = both(table(0.9, 0.0, "sassha", seeds), table(0.7, -0.03, "sgd", seeds))
    assert words in said
    for claim in ("better", "worse", "lost plasticity", "decided)"):
        assert claim not in said
    assert "(+33." in said  # the number is there


def test_lower_is_better_for_losses():
    tasks = pd.concat([table(0.5, 0.0, "sassha"), table(0.7, 0.03, "sgd")])
    said = verdict(tasks.rename(columns={"online_accuracy": "online_loss"}), "sgd")
    assert "**sassha** 0.500 (-0.335 [-0.336, -0.334]: better); sgd 0.835." in said
    assert "sgd (+0.240 [+0.239, +0.241]) **lost plasticity**" in said


def test_intervals_of_many_methods_hold_together():
    """With eight methods each interval is of the level 1 - 0.05 / 8, and so wider than a single one's."""
    spread = dict(enumerate([0.004, -0.003, 0.006, 0.001, -0.002]))

    def method(label: str) -> pd.DataFrame:
        one = table(0.7, 0.0, label)
        one["online_accuracy"] += one["seed"].map(spread)
        return one

    plain = table(0.7, 0.0, "sgd")
    alone = findings(pd.concat([method("a"), plain]), "sgd")[0].difference
    among = findings(pd.concat([*(method(name) for name in "abcdefgh"), plain]), "sgd")[0].difference
    assert alone.value == pytest.approx(among.value)
    assert among.low < alone.low
    assert among.high > alone.high


def test_divergence_is_said():
    tasks = pd.concat([table(0.8, 0.0, "sassha"), table(0.7, 0.0, "sgd")])
    tasks["diverged_step"] = np.where((tasks["label"] == "sassha") & (tasks["seed"] == 2), 7, -1)
    assert "Diverged: sassha with 1 of 5 seeds." in verdict(tasks, "sgd")


def test_without_the_baseline_every_method_has_its_own_interval():
    said = verdict(table(0.8, 0.0, "adam"), "sgd")
    assert "Mean online accuracy: **adam** 80.0% [79.9%, 80.1%]." in said
