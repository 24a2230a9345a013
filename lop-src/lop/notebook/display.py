"""What notebooks display: a config in words, figures and tables, or the line that says why there is nothing to see."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pandas as pd

from lop.config import Config, Section
from lop.notebook.tables import summary
from lop.runs import Results
from lop.utils.errors import UserError
from lop.viz import compare_optimizers, dashboard_grid, dormant_heatmap, online_accuracy, within_task


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


def show(draw: Callable[..., Any], *tables: Any, **options: Any) -> None:
    """Display what `draw` makes of the tables, or the one line that says why there is nothing to see.

    Nothing for tables without a row: who made them has said why.
    """
    from IPython.display import Markdown, display

    frames = [table.tasks if isinstance(table, Results) else table for table in tables]
    if any(isinstance(frame, pd.DataFrame) and frame.empty for frame in frames):
        return
    try:
        display(draw(*tables, **options))
    except UserError as error:
        display(Markdown(f"*{error}*"))


DIAGNOSTICS = (
    "Before (dotted) and after (solid) every task. Falling ranks, growing weights and dormant units (Dohare: active on "
    "less than 1% of the inputs) are the usual companions of lost plasticity. The map shows in which layer they are."
)


def show_diagnostics(results: Results, baseline: str) -> None:
    """How to read the diagnostics, all of them over the tasks, and the dormant units of every layer."""
    from IPython.display import Markdown

    show(lambda tasks: Markdown(DIAGNOSTICS), results)
    show(dashboard_grid, results.tasks, baselines=[baseline])
    show(dormant_heatmap, results.layers)


def show_performance(results: Results, baseline: str, *, within: bool = False) -> None:
    """Online performance, then how the methods compare (within: how they learn inside a task), then the summary."""
    show(online_accuracy, results.tasks, baselines=[baseline])
    if within:
        show(within_task, results.online)
    else:
        show(compare_optimizers, results.tasks, baselines=[baseline])
    show(summary, results, baseline=baseline)
