"""What `lop study` does: carry a study out, and say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lop.config import override, read_file
from lop.study.course import run_study
from lop.study.driver import StudyResult
from lop.study.dry import DryRun
from lop.study.file import Study, make_study
from lop.study.report import make_report


def read(path: str | Path, overrides: dict[str, Any]) -> Study:
    """The study of a file, with keys of the file replaced by dotted path (`evaluation.seeds`)."""
    data = read_file(path, "study file", "benchmarks, methods, tuning, ...")
    for key, value in overrides.items():
        data = override(data, key, value)
    return make_study(data, Path(path).stem)


def run(path: str | Path, overrides: dict[str, Any], report: bool = True) -> StudyResult:
    """Train what is missing, write tables and answer and, when all runs have ended, the report."""
    study = read(path, overrides)
    result, tables = run_study(study)
    print(tables.answer)
    print(f"tables in {study.results_dir}")
    if result.interrupted:
        print("stopped, or other processes hold some of the runs: run the same command again to go on")
    elif report:
        print(make_report(study, Path(path), overrides))
    if result.failed:
        print(f"{len(result.failed)} runs failed; the same command tries them again")
    return result


def dry_run(path: str | Path, overrides: dict[str, Any]) -> str:
    """What would be trained, how long it would take and how much memory, in words."""
    return DryRun(read(path, overrides)).text()
