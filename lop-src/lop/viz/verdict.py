"""What came out, in sentences made of the numbers: methods beside a baseline, early beside late tasks.

Nothing is claimed from one seed, and of an interval that holds zero it is said that these seeds do not decide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lop.runs.statistics import FEWEST, LEVEL, Estimate, mean_interval, paired_difference, window_of
from lop.viz.compare import common_tasks, run_scores, seed_scores
from lop.viz.measures import Measure, performance
from lop.viz.style import prepared


@dataclass(frozen=True)
class Finding:
    """One method over its seeds, of the tasks that all runs have. mean: performance over all these tasks; change: of
    the last fifth of them minus the first; difference: of the mean, minus the baseline's of the same seed, None for
    the baseline itself. diverged: how many seeds."""

    label: str
    mean: Estimate
    change: Estimate
    difference: Estimate | None
    diverged: int

    @property
    def seeds(self) -> int:
        return self.mean.seeds


def findings(tasks: pd.DataFrame, baseline: str) -> list[Finding]:
    """A finding per label, in the order of the table.

    Intervals of differences hold for all methods together (Bonferroni): with m methods beside the baseline each is of
    the level 1 - 0.05 / m. Raises UserError for a table without rows.
    """
    tasks = prepared(tasks, ["task"])
    scores = seed_scores(run_scores(tasks)).set_index("seed")
    diverged = _diverged(tasks)
    labels = list(dict.fromkeys(tasks["label"]))
    plain = scores[scores["label"] == baseline]["mean"]
    others = max(1, sum(label != baseline for label in labels))
    found = []
    for label in labels:
        one = scores[scores["label"] == label]
        beside = label != baseline and len(plain) > 0
        level = 1 - (1 - LEVEL) / others
        difference = paired_difference(one["mean"], plain, level=level) if beside else None
        found.append(
            Finding(label, mean_interval(one["mean"]), mean_interval(one["change"]), difference, diverged.get(label, 0))
        )
    return found


def _diverged(tasks: pd.DataFrame) -> dict[str, int]:
    if "diverged_step" not in tasks:
        return {}
    return tasks[tasks["diverged_step"] >= 0].groupby("label")["seed"].nunique().to_dict()


def verdict(tasks: pd.DataFrame, baseline: str, *, alike: bool = True) -> str:
    """A short paragraph of Markdown: how the methods perform, how that changes, what was too uncertain to say.

    alike: all tasks are equally hard, so that getting worse means that plasticity is lost.
    """
    table = prepared(tasks, ["task"])
    measure, found = performance(table), findings(tasks, baseline)
    shared = common_tasks(table)["task"].nunique()
    seeds = sorted({finding.seeds for finding in found})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    head = f"{counted(shared, 'task')}, {count} {'seed' if seeds == [1] else 'seeds'}."
    parts = [head, _levels(found, measure), _changes(found, measure, window_of(shared), alike and shared > 1)]
    if diverged := [f"{f.label} with {f.diverged} of {f.seeds}" for f in found if f.diverged]:
        parts.append(f"Diverged: {', '.join(diverged)} seeds.")
    if min(seeds) < FEWEST:
        parts.append(
            f"**{['No', 'One', 'Two'][min(seeds)]} {'seed decides' if min(seeds) == 1 else 'seeds decide'} nothing.**"
        )
    return " ".join(part for part in parts if part)


def _levels(found: Sequence[Finding], measure: Measure) -> str:
    """How well each method does over all tasks, and beside the baseline."""
    name = measure.label.lower()
    plain = next((f for f in found if f.difference is None), None)
    if len(found) == 1 or plain is None:
        listed = ", ".join(f"**{f.label}** {estimate_text(f.mean, measure)}" for f in found)
        return f"Mean {name}: {listed}."
    texts = []
    for finding in found:
        if finding.difference is None:
            continue
        texts.append(f"**{finding.label}** {measure.text(finding.mean.value)} ({_beside(finding, measure)})")
    return f"Mean {name}: {', '.join(texts)}; {plain.label} {measure.text(plain.mean.value)}."


def _beside(finding: Finding, measure: Measure) -> str:
    difference = finding.difference
    assert difference is not None
    text = change_text(difference, measure)
    if difference.seeds < FEWEST:
        return text
    if not difference.decided:
        return f"{text}: not decided"
    better = (difference.value > 0) == (measure.higher_is_better is not False)
    return f"{text}: {'better' if better else 'worse'}"


def _changes(found: Sequence[Finding], measure: Measure, window: int, alike: bool) -> str:
    """Early against late tasks."""
    ends = "the first to the last task" if window == 1 else f"the first {window} tasks to the last {window}"
    groups: dict[str, list[str]] = {}
    for finding in found:
        groups.setdefault(_direction(finding, measure, alike), []).append(
            f"{finding.label} ({change_text(finding.change, measure)})"
        )
    parts = [f"{_joined(names)} {what}" for what, names in groups.items()]
    return f"From {ends}, {'; '.join(parts)}."


def _direction(finding: Finding, measure: Measure, alike: bool) -> str:
    """What to say of the change; without an interval no more than the number."""
    change = finding.change
    if change.seeds < FEWEST:
        return "changed"
    if not change.decided:
        return "did not change as far as these seeds show"
    worse = (change.value < 0) == (measure.higher_is_better is not False)
    if worse:
        return "**lost plasticity**" if alike else "got worse"
    return "got better"


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(number: int, what: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def estimate_text(estimate: Estimate, measure: Measure) -> str:
    """`86.1% [85.0%, 87.2%]`; without the interval where there is none."""
    text = measure.text(estimate.value)
    return f"{text} [{measure.text(estimate.low)}, {measure.text(estimate.high)}]" if estimate.seeds > 1 else text


def change_text(estimate: Estimate, measure: Measure) -> str:
    """`-1.9 pp [-2.3, -1.5]`: a difference of two values with its interval."""
    return measure.change_text(estimate.value, estimate.low, estimate.high)


INTERVALS = "Brackets: 95% bootstrap interval over seeds; differences between methods are taken within a seed."
