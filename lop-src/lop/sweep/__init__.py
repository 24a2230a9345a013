"""A grid of runs: one executed notebook and one run folder per cell, in parallel processes, resumable.

    python lop-src/main.py sweep -c grid.yaml

    grid:                          # every combination is a cell
      optimizer: [sgd, sassha]
      benchmark: [permuted_digits]
      algos: [[], [l2_init]]
      seed: [0, 1, 2]
      optimizer.lr: [0.01, 0.1]    # any key of the config, by its dotted path
    settings: {num_tasks: 20}      # the same in every cell
    results_dir: results/sweep
    parallel: 2

How cells are carried out is behind `Executor`: whatever can call `execute(job)` somewhere, with the folders in reach,
can run a grid.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

import lop
from lop.config import Config, read_file
from lop.plan import plan
from lop.runs import ENDED, RunningElsewhereError, read_status, results_folder, run_folder_of
from lop.sweep.workers import WorkerDiedError, Workers
from lop.utils.errors import UserError, near_matches, shortened
from lop.utils.files import disk_errors, make_folder, write_text
from lop.utils.options import check_options
from lop.utils.ranges import COUNT, require

_OF_A_RUN = ("optimizer", "benchmark", "algos", "seed", "num_tasks", "dataset", "lr", "config", "device", "data_dir")
PARAMETERS = (*_OF_A_RUN, "time_limit_hours")
MOST_CELLS = 100_000
ELSEWHERE = "running elsewhere"


@dataclass(frozen=True)
class Job:
    """One cell: plain values, so that it can travel as JSON. folder: of its run; output: the executed notebook."""

    name: str
    notebook: str
    output: str
    folder: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """state: of the run (finished, interrupted, diverged), done before, running elsewhere or failed.

    detail: one line that says why.
    """

    name: str
    state: str
    detail: str = ""


class Executor(Protocol):
    """Carries out jobs and yields their outcomes as they come, in any order, exactly one for every job."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]: ...


class LocalProcesses:
    """Jobs in so many processes on this machine, one for each job: one that is killed takes no other along.

    They end, and the notebooks' kernels with them, when this process does, however it ends, and when the caller stops.
    """

    def __init__(self, parallel: int = 1):
        self.parallel = parallel

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        with Workers() as workers, ThreadPoolExecutor(self.parallel) as threads:
            waiting = {threads.submit(workers.call, execute, asdict(job)): job for job in jobs}
            try:
                for done in as_completed(waiting):
                    try:
                        yield done.result()
                    except WorkerDiedError:
                        yield Outcome(waiting[done].name, "failed", "its process was killed (out of memory?)")
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                workers.end()
                raise


def execute(job: dict[str, Any]) -> Outcome:
    """Run the notebook of one job (a Job as a dict). Errors of the run are outcomes, not exceptions."""
    cell = Job(**job)
    output = Path(cell.output)
    try:
        make_folder(output.parent)
        with FileLock(output.parent / f".{output.stem}.lock", timeout=0):  # two sweeps write it one after the other
            return Outcome(cell.name, "done before") if is_done(cell) else _execute(cell, output)
    except Timeout:
        return Outcome(cell.name, ELSEWHERE, "another sweep is at this cell")
    except Exception as error:  # a kernel that died, a full disk, a damaged status: the other cells go on
        return Outcome(cell.name, "failed", shortened(f"{type(error).__name__}: {error}"))


def _execute(job: Job, output: Path) -> Outcome:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    part, failed = output.with_name(f"{output.stem}.part.ipynb"), output.with_name(f"{output.stem}.failed.ipynb")
    try:
        papermill.execute_notebook(job.notebook, str(part), job.parameters, kernel_name="python3", progress_bar=False)
    except PapermillExecutionError as error:
        if error.ename == RunningElsewhereError.__name__:  # what a kernel tells of an exception's type
            part.unlink()
            return Outcome(job.name, ELSEWHERE, shortened(error.evalue))
        part.replace(failed)
        return Outcome(job.name, "failed", shortened(f"{error.ename}: {error.evalue}"))
    part.replace(output)  # a notebook under its own name is a whole one
    failed.unlink(missing_ok=True)
    return Outcome(job.name, read_status(Path(job.folder)).get("state", "failed"))


class Grid:
    """What a grid file says, checked; `jobs` are its cells."""

    def __init__(self, jobs: list[Job], results_dir: Path, parallel: int):
        self.jobs, self.results_dir, self.parallel = jobs, results_dir, parallel


def read_grid(path: str | Path) -> Grid:
    """The grid of a JSON or YAML file. Raises UserError for anything wrong in any cell, before one is run."""
    data = read_file(path, "grid file", "grid, settings, ...")
    return make_grid(**check_options("grid file", make_grid, data))


def make_grid(
    *,
    grid: dict[str, list[Any]],
    settings: dict[str, Any] | None = None,
    results_dir: str = "results/sweep",
    parallel: int = 1,
    threads: int = 1,
    notebook: str | None = None,
) -> Grid:
    """Every combination of the values in `grid`, as jobs. threads: of torch, per process; see the module."""
    require(COUNT, parallel=parallel, threads=threads)
    source, results = find_notebook(notebook), results_folder(results_dir)
    axes = {name: values for name, values in grid.items() if values}
    size = 1
    for values in axes.values():
        size *= len(values)
    if not axes or size > MOST_CELLS:
        raise UserError(f"expected 1..{MOST_CELLS} cells, got {size if axes else 0}", option="grid", joint=": ")
    jobs: dict[str, Job] = {}
    for chosen in itertools.product(*axes.values()):
        cell = {**(settings or {}), **dict(zip(axes, chosen, strict=True))}
        parameters, config = cell_parameters(cell, str(results), threads)
        name = config.run_name()
        if name in jobs:
            raise UserError(f"grid: two cells are the same run, {name}; make their settings differ or drop one")
        output = results / "notebooks" / f"{name}.ipynb"
        jobs[name] = Job(name, str(source), str(output), str(run_folder_of(config)), parameters)
    return Grid(list(jobs.values()), results, parallel)


def cell_parameters(cell: dict[str, Any], results_dir: str, threads: int) -> tuple[dict[str, Any], Config]:
    """A cell as parameters of the notebook, and the config they mean. Raises UserError naming the key."""
    given = {name: value for name, value in cell.items() if name in PARAMETERS}
    paths = {name: value for name, value in cell.items() if name not in PARAMETERS}
    if bare := [name for name in paths if "." not in name]:
        raise UserError(f"{bare[0]}: unknown key; {near_matches(bare[0], PARAMETERS)}, or a dotted path in the config")
    overrides = {"run.threads": threads, **paths}
    fixed: dict[str, Any] = {"baseline": False, "results_dir": results_dir}
    (config,) = plan(**given, **fixed, overrides=overrides)
    return {**given, **fixed, "seed": config.run.seed, "overrides": overrides}, config  # by itself it trains several


def find_notebook(notebook: str | None) -> Path:
    """The notebook that runs a cell: the one given, or run-expr.ipynb here or beside the sources."""
    choices = (
        [Path(notebook)] if notebook else [Path("run-expr.ipynb"), Path(lop.__file__).parents[2] / "run-expr.ipynb"]
    )
    for path in choices:
        if path.exists():
            return path
    raise UserError(f"notebook: {choices[0]} not found; give its path")


def is_done(job: Job) -> bool:
    """The run has ended and its notebook is whole."""
    try:
        ended = read_status(Path(job.folder)).get("state") in ENDED
    except UserError:  # a damaged one: the run says so
        return False
    return ended and Path(job.output).exists()


def sweep(grid: Grid, executor: Executor | None = None, report: Callable[[str], None] = print) -> list[Outcome]:
    """Carry out what is not done yet; returns an outcome per cell, in the grid's order.

    Writes `sweep.json` (every cell with its outcome) into the results folder.
    """
    executor = executor or LocalProcesses(grid.parallel)
    outcomes = {job.name: Outcome(job.name, "done before") for job in grid.jobs if is_done(job)}
    todo = [job for job in grid.jobs if job.name not in outcomes]
    report(f"{len(grid.jobs)} cells, {len(outcomes)} done before, {len(todo)} to run")
    for number, outcome in enumerate(executor.run(todo), 1):
        outcomes[outcome.name] = outcome
        report(
            f"[{number}/{len(todo)}] {outcome.state}: {outcome.name}"
            + (f" ({outcome.detail})" if outcome.detail else "")
        )
    ordered = [outcomes[job.name] for job in grid.jobs]
    make_folder(grid.results_dir)
    rows = [{**asdict(job), **asdict(outcome)} for job, outcome in zip(grid.jobs, ordered, strict=True)]
    with disk_errors(grid.results_dir), FileLock(grid.results_dir / ".sweep.lock"):  # another sweep may end now, too
        write_text(grid.results_dir / "sweep.json", json.dumps(rows, indent=2) + "\n")
    return ordered
