"""What `lop study` does: carry a study out, and say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lop.config import override, read_file
from lop.study.course import run_study
from lop.study.driver import StudyResult
from lop.study.dry import DryRun
from lop.study.figures import write_figures
from lop.study.file import make_study
from lop.study.report import make_report
from lop.study.spec import Study
from lop.utils.errors import UserError, near_matches, shown


def read(path: str | Path, overrides: dict[str, Any]) -> Study:
    """The study of a file, with keys of the file replaced by dotted path (`evaluation.seeds`)."""
    data = read_file(path, "study file", "benchmarks, methods, tuning, ...")
    for key, value in overrides.items():
        data = override(data, key, value)
    return make_study(data, Path(path).stem)


def part(path: str | Path, methods: list[str], benchmarks: list[str]) -> dict[str, Any]:
    """What to override so that only these methods and the reference are trained, on these benchmarks; empty: on all.

    Into a folder of its own, beside the study's: its tables stay. Raises UserError for unknown names.
    """
    data = read_file(path, "study file", "benchmarks, methods, tuning, ...")
    found: dict[str, Any] = {"results_dir": f"{data.get('results_dir', 'results/study')}-part"}
    for section, names in (("methods", methods), ("benchmarks", benchmarks)):
        there = data.get(section) or {}
        for name in names:
            if name not in there:
                raise UserError(f"{path}: {section}: no {shown(name)}; {near_matches(name, there)}")
        if names:
            found[section] = {name: one for name, one in there.items() if name in names}
    if methods:
        reference = data.get("reference") or next(iter(data["methods"]))
        found["drawn"] = None  # might name others
        found["methods"] = {reference: data["methods"][reference], **found["methods"]}
    if benchmarks:
        kept = {name: _only(method, benchmarks) for name, method in found.get("methods", data["methods"]).items()}
        found["methods"] = {name: method for name, method in kept.items() if method.get("only") != []}
    return found


def _only(method: dict[str, Any], benchmarks: list[str]) -> dict[str, Any]:
    if "only" not in method:
        return method
    return {**method, "only": [name for name in method["only"] if name in benchmarks]}


def run(path: str | Path, overrides: dict[str, Any], report: bool = True) -> StudyResult:
    """Train what is missing, write tables and answer and, when all runs have ended, the report."""
    study = read(path, overrides)
    result, tables = run_study(study)
    print(tables.answer)
    print(f"tables in {study.results_dir}")
    if result.interrupted:
        print("stopped, or other processes hold some of the runs: run the same command again to go on")
    elif report:
        write_figures(result, tables)
        print(make_report(study, Path(path), overrides))
    if result.failed:
        print(f"{len(result.failed)} runs failed; the same command tries them again")
    return result


def dry_run(path: str | Path, overrides: dict[str, Any]) -> str:
    """What would be trained, how long it would take and how much memory, in words."""
    return DryRun(read(path, overrides)).text()
