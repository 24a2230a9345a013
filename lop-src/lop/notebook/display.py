"""What notebooks display: a config in words, figures and tables, or the line that says why there is nothing to see."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from lop.config import Config, Section
from lop.notebook import texts
from lop.notebook.advice import next_steps
from lop.notebook.tables import PERFORMANCE, by_task, summaries, summary
from lop.plan import BENCHMARKS
from lop.runner import RunResult
from lop.runs import Results
from lop.utils.errors import UserError
from lop.viz import compare_optimizers, dashboard_grid, dormant_heatmap, online_accuracy, within_task
from lop.viz.verdict import INTERVALS, verdict


def describe(config: Config) -> str:
    """What a config says about the learner and its tasks, a line per part, wrapped where it is long."""

    def line(part: str, section: Section) -> str:
        options = ", ".join(
            f"{key} {value}" for key, value in section.options.items() if value is not None and value is not False
        )
        return f"{part}: {section.name}" + (f" ({options})" if options else "")

    parts = [("benchmark", config.benchmark), ("net", config.net), ("optimizer", config.optimizer)]
    lines = [line(*part) for part in [*parts, *(("algo", algo) for algo in config.algos)]]
    return "\n".join(textwrap.fill(text, 96, subsequent_indent="    ") for text in lines)


def show(
    draw: Callable[..., Any], *tables: Any, heading: str | None = None, text: str | None = None, **options: Any
) -> None:
    """Display what `draw` makes of the tables, or the one line that says why there is nothing to see.

    heading, text: above it, in Markdown. Nothing for tables without a row, a heading neither: who made them has said
    why.
    """
    from IPython.display import display

    frames = [table.tasks if isinstance(table, Results) else table for table in tables]
    if any(isinstance(frame, pd.DataFrame) and frame.empty for frame in frames):
        return
    if above := "\n\n".join(part for part in (heading and f"## {heading}", text) if part):
        display(Markdown(above))
    try:
        drawn = draw(*tables, **options)
        if drawn is not None:
            display(drawn)
    except UserError as error:
        display(Markdown(f"*{error}*"))


class Folded:
    """A block that a page shows folded, by its title; where there is only plain text, all of it."""

    def __init__(self, title: str, text: str = "", table: pd.DataFrame | None = None):
        self.title, self.text, self.table = title, text, table

    def _repr_html_(self) -> str:
        inner = f"<pre>{html.escape(self.text)}</pre>" if self.table is None else self.table.to_html()
        return f"<details><summary>{html.escape(self.title)}</summary>{inner}</details>"

    def __repr__(self) -> str:
        return f"{self.title}\n{self.text if self.table is None else self.table.to_string()}"


def show_by_task(
    results: Results,
    columns: Sequence[str] = PERFORMANCE,
    *,
    heading: str | None = None,
    text: str = texts.FOLDED,
) -> None:
    """Folded: performance task by task, and the printed summary of every task of each method's first run."""
    from IPython.display import display

    def table(tables: Results) -> Folded:
        return Folded("Performance task by task, mean over seeds", table=by_task(tables, columns))

    show(table, results, heading=heading, text=text)
    for title, printed in summaries(results):
        display(Folded(title, printed))


def show_verdict(
    results: Results, baseline: str, *, runs: Sequence[RunResult] = (), contents: Sequence[str] = ()
) -> None:
    """What came out, in a few sentences, what to try next, and where to find the rest: links to these headings."""
    show(lambda tables: Markdown(verdict_text(tables, baseline, runs, contents)), results)


def verdict_text(results: Results, baseline: str, runs: Sequence[RunResult], contents: Sequence[str]) -> str:
    alike = all(BENCHMARKS[name].alike for name in results.runs["benchmark"].unique())
    data = ", ".join(dict.fromkeys(results.runs["data"]))
    parts = ["## What came out", f"{verdict(results.tasks, baseline, alike=alike)} Data: {data}."]
    if results.tasks["seed"].nunique() > 1:
        parts[-1] += f" <small>{INTERVALS}</small>"
    if steps := next_steps(runs, results.tasks, baseline, alike=alike) if runs else []:
        parts.append(f"**To try next:** {'; '.join(steps)}.")
    if contents:
        parts.append(" · ".join(f"[{name}](#{name.replace(' ', '-')})" for name in contents))
    return "\n\n".join(parts)


WHY = "Why: the diagnostics"


def show_diagnostics(results: Results, baseline: str, text: str = "") -> None:
    """How to read the diagnostics, all of them over the tasks, and the dormant units of every layer.

    text: more of it, for this benchmark.
    """
    show(dashboard_grid, results.tasks, baselines=[baseline], heading=WHY, text=f"{texts.DIAGNOSTICS} {text}".strip())
    show(dormant_heatmap, results.layers)


NUMBERS = "The numbers"


def show_performance(results: Results, baseline: str, *, text: str = "", within: bool = False) -> None:
    """The verdict, online performance, then the summary, how the methods compare, and task by task.

    text: how to read the first figure. within: in place of the comparison how they learn inside a task.
    """
    show_verdict(results, baseline, contents=[NUMBERS, WHY])
    show(online_accuracy, results.tasks, baselines=[baseline], text=text)
    show(summary, results, baseline=baseline, heading=NUMBERS)
    if within:
        show(within_task, results.online)
    else:
        show(compare_optimizers, results.tasks, baselines=[baseline])
    show_by_task(results, text="")
