"""The figures of a study as files, and when which diagnostic moved as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import pandas as pd

from lop import viz
from lop.study.course import StudyTables, evaluation_runs
from lop.study.driver import StudyResult
from lop.study.tables import write_csv
from lop.utils.errors import UserError
from lop.utils.files import make_folder, write_atomic

DPI = 120  # of the files: what is committed stays small


def drawn(tasks: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of these methods, in their order."""
    if tasks.empty:
        return tasks
    order = {method: place for place, method in enumerate(methods)}
    rows = tasks[tasks["label"].isin(methods)]
    return rows.sort_values("label", key=lambda labels: labels.map(order), kind="stable")


def alike(methods: pd.Series, reference: str) -> dict[str, Sequence[str]]:
    """What gives the methods of a study the colours in a figure of labels that they have in those of its scores."""
    return {"baselines": [reference], "among": list(methods)}


def write_figures(result: StudyResult, tables: StudyTables) -> None:
    """Per benchmark `figures/NAME_scores.png`, `_changes`, `_tasks` and `_moves`; `moves.csv` of all methods.

    A figure for which there is too little to see is left out; the report says why.
    """
    study = result.study
    folder = study.results_dir / "figures"
    make_folder(folder)
    moves = []
    for name in study.benchmarks:
        tasks = evaluation_runs(result, name).tasks
        if tasks.empty:
            continue
        rows, few = tables.comparison[tables.comparison["benchmark"] == name], drawn(tasks, study.drawn)
        colours = alike(rows["method"], study.reference)
        figures = {
            "scores": partial(viz.study_scores, rows, reference=study.reference),
            "changes": partial(viz.study_changes, rows, reference=study.reference),
            "tasks": partial(viz.online_accuracy, few, **colours),
            "moves": partial(viz.order_of_moves, few, **colours),
        }
        for kind, draw in figures.items():
            try:
                figure = draw()
            except UserError:
                continue
            write_atomic(folder / f"{name}_{kind}.png", partial(figure.savefig, dpi=DPI))
        with contextlib.suppress(UserError):  # no diagnostics were measured
            moves.append(viz.first_moves(tasks).assign(benchmark=name))
    if moves:
        write_csv(pd.concat(moves, ignore_index=True), study.results_dir / "moves.csv")
