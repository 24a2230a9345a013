"""What to try next, from what came out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lop.runner import RunResult
from lop.runs.statistics import FEWEST
from lop.viz.measures import performance
from lop.viz.style import prepared
from lop.viz.verdict import findings

MORE = "0-4"  # seeds to ask for where there are too few
MANY = "0-15"  # and where a few leave a question open


def next_steps(runs: Sequence[RunResult], tasks: pd.DataFrame, baseline: str, *, alike: bool = True) -> list[str]:
    """One to three suggestions in the words of the notebook's parameters, the most useful first."""
    table = prepared(tasks, ["task"])
    found = findings(tasks, baseline)
    falls = -1 if performance(table).higher_is_better is not False else 1
    steps = []
    if any(run.status == "interrupted" for run in runs):
        steps.append("run the notebook again: it goes on where it stopped")
    if any(finding.diverged for finding in found):
        steps.append("a smaller step size (`lr`) where a run diverged")
    least = min(finding.seeds for finding in found)
    if least < FEWEST:
        steps.append(f'several seeds, so that there are intervals: `seeds="{MORE}"`')
    lost = [f for f in found if f.change.decided and f.change.value * falls > 0]
    if lost and alike:
        steps.append('a cure around the optimizer: `algos="l2_init"` or `algos="cbp"`')
    elif alike and least >= FEWEST:
        steps.append("more tasks (`num_tasks`) or a larger step size (`lr`): plasticity may be lost later or faster")
    open_questions = [f for f in found if f.difference is not None and not f.difference.decided]
    if least >= FEWEST and open_questions:
        steps.append(f'more seeds (`seeds="{MANY}"`): the difference is not decided')
    return steps[:3]
