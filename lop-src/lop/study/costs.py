"""What a step of each method costs, as a multiple of the reference's: timed side by side, once, and kept."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from lop.config import Config
from lop.notebook.cost import step_seconds
from lop.study.driver import CaseResult, StudyResult
from lop.study.tables import write_csv

SECONDS = 0.6  # of timing per method
SIDE_BY_SIDE, OWN_TIMES = "steps side by side", "the runs' own times"
COSTS = "costs.csv"


def measured_costs(result: StudyResult) -> pd.DataFrame:
    """A row per evaluated method and benchmark: seconds of a step or a task, cost over the reference's, and how.

    What `costs.csv` in the results folder holds for exactly these settings is kept; else all methods of a benchmark are
    timed in turn. Where steps cannot be timed (reinforcement learning, steps that take seconds, data that are gone),
    the runs' own times stand in, under whatever load they had.
    """
    path = result.study.results_dir / COSTS
    kept = _kept(path)
    parts = []
    for benchmark in result.study.benchmarks:
        cases = {c.case.method: c for c in result.cases if c.case.benchmark == benchmark and result.evaluated(c)}
        if not cases:
            continue
        configs = {name: _config(result, case) for name, case in cases.items()}
        names = {name: config.run_name() for name, config in configs.items()}
        old = kept[kept["benchmark"] == benchmark] if len(kept) else kept
        if len(old) and dict(zip(old["method"], old["of"], strict=True)) == names:
            parts.append(old)
            continue
        parts.append(_measured(result, benchmark, cases, configs))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if len(table):
        write_csv(table, path)
    return table


def _kept(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"seconds": float, "cost": float})
    except (OSError, ValueError):
        return pd.DataFrame()


def _config(result: StudyResult, case: CaseResult) -> Config:
    assert case.chosen is not None
    return result.trial(case.case, case.chosen.setting, result.study.evaluation_seeds[0], False).config


def _measured(
    result: StudyResult, benchmark: str, cases: dict[str, CaseResult], configs: dict[str, Config]
) -> pd.DataFrame:
    steps = step_seconds(configs, SECONDS * len(configs))
    if steps is None:
        own = {name: [score.seconds for score in result.evaluated(case).values()] for name, case in cases.items()}
        seconds = {name: sum(values) / len(values) for name, values in own.items()}
    else:
        seconds = steps.to_dict()
    base = seconds.get(result.study.reference, math.nan)
    rows = [
        {"benchmark": benchmark, "method": name, "seconds": value, "cost": value / base}
        | {"how": OWN_TIMES if steps is None else SIDE_BY_SIDE, "of": configs[name].run_name()}
        for name, value in seconds.items()
    ]
    return pd.DataFrame(rows)


def by_method(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The cost by benchmark and method."""
    found: dict[str, dict[str, float]] = {}
    for row in table.itertuples() if len(table) else ():
        found.setdefault(row.benchmark, {})[row.method] = row.cost
    return found
