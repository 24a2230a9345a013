"""The answer of a study: sentences made of the numbers in its tables, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from lop.runs.statistics import window_of
from lop.study.driver import CaseResult, StudyResult
from lop.study.file import seeds_text
from lop.viz.measures import Measure, measure_of
from lop.viz.verdict import counted

ALPHA = 0.05


def answer(result: StudyResult, comparison: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Markdown: per benchmark the best, what each method lost, how it differs from the reference; then the limits."""
    parts = [f"# {result.study.name}", _how(result)]
    for benchmark, rows in comparison.groupby("benchmark", sort=False):
        own = differences[differences["benchmark"] == benchmark] if len(differences) else differences
        parts += [f"## {benchmark}", *_of_benchmark(rows, own, result.study.reference)]
    parts += ["## Limits", "\n".join(f"* {line}" for line in limits(result, comparison))]
    return "\n\n".join(parts) + "\n"


def _how(result: StudyResult) -> str:
    study = result.study
    methods, benchmarks = counted(len(study.methods), "method"), counted(len(study.benchmarks), "benchmark")
    tuning = f"{counted(len(study.tuning_seeds), 'tuning seed')} ({seeds_text(study.tuning_seeds)})"
    judging = f"{counted(len(study.evaluation_seeds), 'other seed')} ({seeds_text(study.evaluation_seeds)})"
    return (
        f"{methods} on {benchmarks}. At most {study.budget} settings each were tried on {tuning}, the best judged on "
        f"{judging}. In brackets: 95% bootstrap intervals over seeds. Differences are paired by seed and taken from "
        f"{study.reference}; p-values (sign-flip test) are Holm-corrected over the methods of a benchmark."
    )


def _of_benchmark(rows: pd.DataFrame, differences: pd.DataFrame, reference: str) -> list[str]:
    rows = rows[rows["seeds"] > 0]
    if rows.empty:
        return ["No run of the evaluation has ended: nothing to say yet."]
    measure = measure_of(rows["measure"].iloc[0])
    ordered = rows.sort_values("mean", ascending=measure.higher_is_better is False, kind="stable")
    best, seeds = ordered.iloc[0], int(ordered["seeds"].max())
    tasks = int(best["tasks"])
    what = f"mean {measure.label.lower()} over {tasks} tasks"
    first = f"**{best['method']}** has the best {what}, {_value(best, 'mean', measure)}"
    if seeds < 2:
        return [
            f"{first}. One seed: no verdict, the numbers are in the table.",
            *_list(ordered, measure, tasks, None, reference),
        ]
    if best["method"] != reference and (verdict := _difference(differences, best["method"], "mean", measure)):
        first += f"; {verdict}"
    worse = _apart(differences, "mean", measure, better=False)
    better = _apart(differences, "mean", measure, better=True)
    lines = [first + f" ({counted(seeds, 'seed')})."]
    if len(differences):
        lines.append(
            f"Told apart from {reference} in the mean (Holm-corrected p < {ALPHA:g}): "
            f"better {_names(better)}; worse {_names(worse)}. "
            f"At equal time: better {_names(_apart(differences, 'equal_time', measure, better=True))}; "
            f"worse {_names(_apart(differences, 'equal_time', measure, better=False))}."
        )
        if (least := smallest_p(seeds)) > ALPHA:
            lines[-1] += f" With {seeds} seeds no p-value can be below {least:.3g}: nothing could have been told apart."
    return [*lines, *_list(ordered, measure, tasks, differences, reference)]


def smallest_p(seeds: int) -> float:
    """The least p-value that the sign-flip test can give for so many pairs."""
    return 2.0 / 2**seeds


def _list(
    rows: pd.DataFrame, measure: Measure, tasks: int, differences: pd.DataFrame | None, reference: str
) -> list[str]:
    return ["\n".join(f"* {_sentence(row, measure, tasks, differences, reference)}" for _, row in rows.iterrows())]


def _sentence(row: pd.Series, measure: Measure, tasks: int, differences: pd.DataFrame | None, reference: str) -> str:
    """One method: `sassha loses 1.9 pp [1.2, 2.6] from the first 4 tasks to the last 4, ...`."""
    width = window_of(tasks)
    text = f"**{row['method']}** {_lost(row, measure)} from the first {width} to the last {width} of {tasks} tasks"
    text += f" ({_value(row, 'early', measure)} to {_value(row, 'late', measure)}); mean {_value(row, 'mean', measure)}"
    if math.isfinite(row["test"]):
        text += f"; test accuracy in the end {_value(row, 'test', measure_of('test_acc'))}"
    if row["method"] != reference:
        if differences is not None:
            for name, words in (("change", "in the change"), ("mean", "in the mean")):
                if found := _difference(differences, row["method"], name, measure):
                    text += f"; {words} {found}"
        if math.isfinite(row["cost"]):
            text += f"; a step costs {row['cost']:.2g} of {reference}'s"
            text += f", at equal time {_value(row, 'equal_time', measure)}"
            if differences is not None and (found := _difference(differences, row["method"], "equal_time", measure)):
                text += f", {found}"
    if row["diverged"]:
        text += f"; {row['diverged']} of {row['seeds']} runs diverged"
    return text + "."


def _lost(row: pd.Series, measure: Measure) -> str:
    change, low, high = row["change"], row["change_low"], row["change_high"]
    if not math.isfinite(change):
        return "has no measured change"
    worse = change < 0 if measure.higher_is_better is not False else change > 0
    low, high = sorted((abs(low), abs(high))) if low * high > 0 else (-high, -low) if change < 0 else (low, high)
    scale, unit, digits = (100, " points", 1) if measure.unit else (1, "", 3)
    text = f"{'loses' if worse else 'gains'} {scale * abs(change):.{digits}f}{unit}"
    return text + (f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]" if math.isfinite(low) else "")


def _value(row: pd.Series, name: str, measure: Measure) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    text = measure.text(row[name])
    return text + (f" [{measure.text(low)}, {measure.text(high)}]" if math.isfinite(low) else "")


def _difference(differences: pd.DataFrame, method: str, name: str, measure: Measure) -> str:
    if differences.empty:
        return ""
    found = differences[(differences["method"] == method) & (differences["measure"] == name)]
    if found.empty:
        return ""
    row = found.iloc[0]
    if not math.isfinite(row["low"]):
        return ""
    return f"paired difference {measure.change_text(row['difference'], row['low'], row['high'])}, p {_p(row['p_holm'])}"


def _p(value: float) -> str:
    return "not known" if not math.isfinite(value) else f"{value:.2g}" if value >= 0.001 else "< 0.001"


def _apart(differences: pd.DataFrame, name: str, measure: Measure, *, better: bool) -> list[str]:
    if not len(differences):
        return []
    own = differences[(differences["measure"] == name) & (differences["p_holm"] < ALPHA)]
    up = better == (measure.higher_is_better is not False)
    return list(own[own["difference"] > 0 if up else own["difference"] < 0]["method"])


def limits(result: StudyResult, comparison: pd.DataFrame) -> list[str]:
    """What the numbers cannot say: failures, divergences, edges of grids, seeds, how equal time is meant."""
    study, lines = result.study, []
    for folder, outcome in result.failed.items():
        trial = next(one for one in result.trials.values() if one.folder == folder)
        purpose = "tuning" if trial.tunes else "evaluation"
        lines.append(f"failed ({purpose}): {trial.case.name}, {trial.setting}, seed {trial.seed}: {outcome.detail}")
    for case in result.cases:
        lines += _of_case(case, study.extend)
    tried = {case.case.method: len(case.settings) for case in result.cases if len(case.settings) > 1}
    if len(set(tried.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in tried.items())
        lines.append(f"not every method tried as many settings, though all could try {study.budget}: {counts}")
    few = comparison[(comparison["seeds"] > 0) & (comparison["seeds"] < len(study.evaluation_seeds))]
    for row in few.itertuples():
        lines.append(f"{row.method} on {row.benchmark}: {row.seeds} of {len(study.evaluation_seeds)} seeds")
    if result.interrupted:
        lines.append("the study has not come to its end: the same command goes on")
    lines.append(
        "equal time: the mean over the first part of every task's steps that fits into the time that the reference "
        "takes for the task, by the cost of a step timed side by side; the run itself went on to the end of the task"
    )
    return lines


def _of_case(case: CaseResult, extend: int) -> list[str]:
    if case.chosen is None:
        return [f"{case.case.name}: no setting was trained on all tuning seeds, so it is not compared"]
    grown = f"{counted(case.extensions, 'extension')} of the grid (at most {extend})"
    return [
        f"{case.case.name}: the best {path}, {case.chosen.setting[path]}, is the "
        f"{'smallest' if edge == 'low' else 'largest'} tried, after {grown}; there may be better ones beyond"
        for path, edge in case.edges.items()
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
