"""The tables of a study: every run, the chosen settings, the comparison and the differences from the reference."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lop.runs.statistics import Estimate, differences, holm, mean_interval, paired_difference, sign_flip_test
from lop.study.driver import CaseResult, StudyResult
from lop.study.file import seeds_text
from lop.study.scores import Score
from lop.study.tuning import spread_of
from lop.utils.files import write_text

MEASURES = ("mean", "late", "change", "equal_time")  # in which methods are compared with the reference
SCORES = ("early", "late", "change", "mean", "test", "equal_time")
CHOSEN = "chosen.yaml"


def runs_table(result: StudyResult) -> pd.DataFrame:
    """A row per run that was asked for: benchmark, method, purpose, setting, seed, state, scores and folder.

    The folder is relative to the study's results folder. detail: why a run failed.
    """
    rows = []
    for trial in result.trials.values():
        score, failed = result.scores.get(trial.folder), result.failed.get(trial.folder)
        row: dict[str, Any] = {"benchmark": trial.case.benchmark, "method": trial.case.method}
        row |= {"purpose": "tuning" if trial.tunes else "evaluation", "seed": trial.seed}
        row |= {"setting": json.dumps(trial.setting), "state": "failed" if failed else "missing"}
        if score is not None:
            row |= {"state": score.state, "diverged_tasks": score.diverged, "measure": score.measure.column}
            row |= {"mean": score.mean, "early": score.early, "late": score.late, "change": score.late - score.early}
            row |= {"test": score.test, "seconds_per_task": score.seconds}
        row |= {
            "folder": str(trial.folder.relative_to(result.study.results_dir)),
            "detail": failed.detail if failed else "",
        }
        rows.append(row)
    return pd.DataFrame(rows)


def chosen_settings(result: StudyResult) -> dict[str, dict[str, Any]]:
    """By benchmark and method: the chosen sections of the config, what was tuned, and how."""
    found: dict[str, dict[str, Any]] = {}
    for case in result.cases:
        if case.chosen is None:
            continue
        config = result.trial(case.case, case.chosen.setting, result.study.evaluation_seeds[0], False).config
        data = config.model_dump(mode="json")
        entry: dict[str, Any] = {
            "benchmark": config.benchmark.name,
            "optimizer": data["optimizer"],
            "algos": data["algos"],
        }
        entry["tuned"] = dict(case.chosen.setting)
        if case.tried:
            entry |= {"score": round(case.chosen.value, 6), "settings_tried": len(case.settings)}
            entry |= {"seeds": seeds_text(result.study.tuning_seeds), "at_edge": dict(case.edges)}
        found.setdefault(case.case.benchmark, {})[case.case.method] = entry
    return found


def write_chosen(result: StudyResult) -> None:
    """Write the chosen settings beside the tables."""
    text = yaml.safe_dump(chosen_settings(result), sort_keys=False, default_flow_style=None, width=110)
    write_text(result.study.results_dir / CHOSEN, text)


def tuning_table(result: StudyResult) -> pd.DataFrame:
    """A row per setting that was tried: its mean over the tuning seeds, and whether it was chosen."""
    rows = []
    for case in result.cases:
        for one in case.tried:
            values = list(one.scores.values())
            row: dict[str, Any] = {"benchmark": case.case.benchmark, "method": case.case.method}
            row |= {"setting": json.dumps(one.setting), "mean": one.value, "low": min(values), "high": max(values)}
            row |= {"chosen": case.chosen is not None and one.setting == case.chosen.setting}
            rows.append(row | {"at_edge": ", ".join(case.edges) if row["chosen"] else ""})
    return pd.DataFrame(rows)


def by_seed(scores: Mapping[int, Score], share: float) -> pd.DataFrame:
    """The scores of a case's evaluation runs, a row per seed. share: of a task's steps that fit into the equal time."""
    rows = {
        seed: {
            "early": score.early,
            "late": score.late,
            "change": score.late - score.early,
            "mean": score.mean,
            "test": score.test,
            "equal_time": score.within(share) if math.isfinite(share) else math.nan,
            "seconds": score.seconds,
        }
        for seed, score in scores.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").sort_index()


def shares(costs: Mapping[str, float], reference: str) -> dict[str, float]:
    """By method the share of a task's steps that it can take in the time that the reference needs for the task."""
    base = costs.get(reference, math.nan)
    return {name: min(1.0, base / cost) if cost > 0 else math.nan for name, cost in costs.items()}


def comparison_table(result: StudyResult, costs: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """A row per method and benchmark: every score with its 95% bootstrap interval over seeds, and what it costs.

    costs: by benchmark and method, as multiples of the reference's, see `lop.study.costs`.
    """
    rows = []
    for case in result.cases:
        benchmark, method = case.case.benchmark, case.case.method
        scores = result.evaluated(case)
        cost = costs.get(benchmark, {}).get(method, math.nan)
        share = shares(costs.get(benchmark, {}), result.study.reference).get(method, math.nan)
        table = by_seed(scores, share)
        any_score = next(iter(scores.values()), None)
        row: dict[str, Any] = {"benchmark": benchmark, "method": method, "seeds": len(table)}
        row |= {
            "tasks": len(any_score.values) if any_score else 0,
            "measure": any_score.measure.column if any_score else "",
        }
        for name in SCORES:
            estimate = mean_interval(table[name]) if len(table) else Estimate(math.nan, math.nan, math.nan, 0)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {"cost": cost, "seconds_per_task": table["seconds"].mean() if len(table) else math.nan}
        row |= {"diverged": sum(score.diverged > 0 for score in scores.values()), "failed": _failures(result, case)}
        chosen = case.chosen.setting if case.chosen is not None else None
        row |= {"settings_tried": len(case.tried), "chosen": json.dumps(chosen), "at_edge": ", ".join(case.edges)}
        rows.append(row)
    return pd.DataFrame(rows)


def _failures(result: StudyResult, case: CaseResult) -> int:
    own = (trial for trial in result.trials.values() if trial.case is case.case)
    return sum(trial.folder in result.failed for trial in own)


def differences_table(result: StudyResult, costs: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """A row per method, benchmark and measure: the paired difference from the reference over the seeds that both have.

    Columns: difference, low, high (95% bootstrap), p (two-sided sign-flip test), p_holm (over all methods of the
    benchmark and measure), seeds. Equal time: the method within the time that the reference takes, against the
    reference's mean.
    """
    rows = []
    for benchmark in result.study.benchmarks:
        cases = {case.case.method: case for case in result.cases if case.case.benchmark == benchmark}
        if result.study.reference not in cases:
            continue
        share = shares(costs.get(benchmark, {}), result.study.reference)
        tables = {name: by_seed(result.evaluated(case), share.get(name, math.nan)) for name, case in cases.items()}
        reference = tables.pop(result.study.reference)
        for measure in MEASURES if len(reference) else ():
            found = {}
            for name, table in tables.items():
                if table.empty:
                    continue
                ours, theirs = table[measure], reference[measure]
                found[name] = paired_difference(ours, theirs), sign_flip_test(differences(ours, theirs).to_numpy())
            adjusted = holm({name: p for name, (_, p) in found.items()})
            for name, (estimate, p) in found.items():
                row: dict[str, Any] = {"benchmark": benchmark, "method": name, "reference": result.study.reference}
                row |= {"measure": measure, "difference": estimate.value, "low": estimate.low, "high": estimate.high}
                rows.append(row | {"p": p, "p_holm": adjusted[name], "seeds": estimate.seeds})
    return pd.DataFrame(rows)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """With numbers of six digits: what is committed stays small and the same on every machine."""
    write_text(path, table.to_csv(index=False, float_format="%.6g"))


def grids(result: StudyResult) -> pd.DataFrame:
    """What was tried: a row per method, benchmark and key."""
    rows = []
    for case in result.cases:
        for path, values in spread_of(case.settings).items():
            chosen = case.chosen.setting[path] if case.chosen else None
            row = {"benchmark": case.case.benchmark, "method": case.case.method, "key": path}
            rows.append(
                row | {"tried": ", ".join(map(str, values)), "chosen": chosen, "edge": case.edges.get(path, "")}
            )
    return pd.DataFrame(rows)
