"""A study from its file to everything that it leaves in its results folder."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lop.executors import Executor
from lop.notebook.tables import relabelled
from lop.runs import Results, load
from lop.study.answer import answer
from lop.study.costs import by_method, measured_costs
from lop.study.driver import Driver, Report, StudyResult, say
from lop.study.spec import Study
from lop.study.tables import (
    comparison_table,
    differences_table,
    grids,
    runs_table,
    tuning_table,
    write_chosen,
    write_csv,
)
from lop.utils.files import make_folder, write_text
from lop.viz import latex_table, markdown_table
from lop.viz.measures import measure_of


@dataclass(frozen=True)
class StudyTables:
    """All tables of a study and its answer; see the functions of `lop.study.tables`."""

    runs: pd.DataFrame
    tuning: pd.DataFrame
    grids: pd.DataFrame
    costs: pd.DataFrame
    comparison: pd.DataFrame
    differences: pd.DataFrame
    answer: str


def run_study(study: Study, executor: Executor | None = None, report: Report = say) -> tuple[StudyResult, StudyTables]:
    """Train what is missing and write the tables and the answer; tables are written whenever a round of runs has ended.

    A study that is finished is only read.
    """
    result = Driver(study, executor, report, after_round=_write_early).run()
    return result, write_tables(result)


def study_results(study: Study) -> tuple[StudyResult, StudyTables]:
    """What is known of a study so far, without training anything."""
    result = Driver(study).read()
    return result, study_tables(result)


def study_tables(result: StudyResult) -> StudyTables:
    """All tables of a study; times the methods' steps where that was not done before."""
    costs = measured_costs(result)
    comparison = comparison_table(result, by_method(costs))
    differences = differences_table(result, by_method(costs))
    text = answer(result, comparison, differences)
    return StudyTables(runs_table(result), tuning_table(result), grids(result), costs, comparison, differences, text)


def _write_early(result: StudyResult) -> None:
    """What a stopped study leaves: every run so far and the settings chosen so far."""
    write_csv(runs_table(result), result.study.results_dir / "runs.csv")
    write_chosen(result)


def write_tables(result: StudyResult) -> StudyTables:
    """Write all tables and the answer into the results folder."""
    folder = result.study.results_dir
    make_folder(folder)
    tables = study_tables(result)
    for name in ("runs", "tuning", "grids", "comparison", "differences"):
        write_csv(getattr(tables, name), folder / f"{name}.csv")
    write_chosen(result)
    write_text(folder / "answer.md", tables.answer)
    for benchmark in result.study.benchmarks:
        shown = paper_table(tables.comparison, benchmark)
        write_text(folder / f"{benchmark}.md", markdown_table(shown) + "\n")
        write_text(folder / f"{benchmark}.tex", latex_table(shown) + "\n")
    return tables


def paper_table(comparison: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """One benchmark's methods, best first, as text: scores with their intervals, cost, what was chosen."""
    rows = comparison[(comparison["benchmark"] == benchmark) & (comparison["seeds"] > 0)]
    if rows.empty:
        return pd.DataFrame({"method": []}).set_index("method")
    measure = measure_of(rows["measure"].iloc[0])
    rows = rows.sort_values("mean", ascending=measure.higher_is_better is False, kind="stable")
    shown: dict[str, list[str]] = {"method": list(rows["method"]), "seeds": [str(seeds) for seeds in rows["seeds"]]}
    for name in ("early", "late", "change", "mean", "test", "equal_time"):
        own = measure_of("test_acc") if name == "test" else measure
        if rows[name].notna().any():
            triples = zip(rows[name], rows[f"{name}_low"], rows[f"{name}_high"], strict=True)
            shown[name.replace("_", " ").capitalize()] = [
                own.change_text(*one) if name == "change" else _with_interval(own, *one) for one in triples
            ]
    if rows["cost"].notna().any():
        shown["cost"] = [f"{value:.2f}" for value in rows["cost"]]
    if rows["diverged"].any():
        shown["diverged"] = [str(value) for value in rows["diverged"]]
    return pd.DataFrame(shown).set_index("method")


def paper_differences(differences: pd.DataFrame, comparison: pd.DataFrame) -> pd.DataFrame:
    """The paired differences as text, in the unit of what was measured: `-2.6 pp [-2.9, -2.4]`.

    Index: benchmark, measure, method. comparison: says what each benchmark measured.
    """
    measures = comparison.drop_duplicates("benchmark").set_index("benchmark")["measure"].map(measure_of)
    numbers = zip(*(differences[name] for name in ("benchmark", "difference", "low", "high")), strict=True)
    return pd.DataFrame(
        {
            **{name: differences[name] for name in ("benchmark", "measure", "method")},
            "difference": [measures[name].change_text(*triple) for name, *triple in numbers],
            **{name: [f"{value:.2g}" for value in differences[name]] for name in ("p", "p_holm")},
            "seeds": differences["seeds"],
        }
    ).set_index(["benchmark", "measure", "method"])


def _with_interval(measure, value: float, low: float, high: float) -> str:
    text = measure.text(value)
    return f"{text} [{measure.text(low)}, {measure.text(high)}]" if low == low else text


def evaluation_runs(result: StudyResult, benchmark: str) -> Results:
    """All tables of the evaluation runs of a benchmark, labelled by method, in the order of the file."""
    labels = {}
    for case in result.cases:
        if case.case.benchmark == benchmark:
            for score in result.evaluated(case).values():
                labels[score.folder] = case.case.method
    return relabelled(load(*labels), {folder.name: label for folder, label in labels.items()}) if labels else Results()
