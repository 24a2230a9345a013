"""A grid of runs: one executed notebook and one run folder per cell, resumable.

    python lop-src/main.py sweep -c grid.yaml

    grid:                          # every combination is a cell
      optimizer: [sgd, sassha]
      benchmark: [permuted_digits]
      algos: [[], [l2_init]]
      seed: [0, 1, 2]
      optimizer.lr: [0.01, 0.1]    # any key of the config, by its dotted path
    settings: {num_tasks: 20}      # the same in every cell
    results_dir: results/sweep
    executor: {name: local, parallel: 2}    # or only `parallel: 2`

Cells that differ only in seed and numbers are trained as one population; then the notebook of each is executed, which
reports the finished run. With a notebook of one's own (`notebook: mine.ipynb`) every cell is left to that.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lop.config import Config, read_file
from lop.executors import ELSEWHERE, Executor, Job, LocalProcesses, Outcome, job_of, make_executor, populations, train
from lop.plan import plan
from lop.runs import ENDED, RunningElsewhereError, read_status, results_folder, run_folder_of
from lop.utils.durations import duration
from lop.utils.errors import UserError, near_matches, shortened
from lop.utils.files import disk_errors, make_folder, write_text
from lop.utils.options import check_options
from lop.utils.ranges import COUNT, require
from lop.utils.shipped import shipped_notebooks

_OF_A_RUN = ("optimizer", "benchmark", "algos", "seed", "num_tasks", "dataset", "lr", "config", "device", "data_dir")
PARAMETERS = (*_OF_A_RUN, "time_limit_hours")
MOST_CELLS = 100_000


@dataclass(frozen=True)
class Cell:
    """Plain values, so that it can travel as JSON. folder: of its run; output: the executed notebook."""

    name: str
    notebook: str
    output: str
    folder: str
    parameters: dict[str, Any]


def execute(given: dict[str, Any]) -> list[Outcome]:
    """Train the population of a job (a Job as a dict; extras: its Cells), then execute every cell's notebook.

    Errors of a run are outcomes, not exceptions.
    """
    job = Job(**given)
    if len(job.names) > 1:
        train(given)  # what fails here fails in its notebook, too, which then says so
    return [execute_cell(Cell(**cell)) for cell in job.extras]


def execute_cell(cell: Cell) -> Outcome:
    """Execute the notebook of one cell."""
    output = Path(cell.output)
    try:
        make_folder(output.parent)
        with FileLock(output.parent / f".{output.stem}.lock", timeout=0):  # two sweeps write it one after the other
            return Outcome(cell.name, "done before") if is_done(cell) else _execute(cell, output)
    except Timeout:
        return Outcome(cell.name, ELSEWHERE, "another sweep is at this cell")
    except Exception as error:  # a kernel that died, a full disk, a damaged status: the other cells go on
        return Outcome(cell.name, "failed", shortened(f"{type(error).__name__}: {error}"))


def _execute(cell: Cell, output: Path) -> Outcome:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    part, failed = output.with_name(f"{output.stem}.part.ipynb"), output.with_name(f"{output.stem}.failed.ipynb")
    try:
        papermill.execute_notebook(cell.notebook, str(part), cell.parameters, kernel_name="python3", progress_bar=False)
    except PapermillExecutionError as error:
        if error.ename == RunningElsewhereError.__name__:  # what a kernel tells of an exception's type
            part.unlink()
            return Outcome(cell.name, ELSEWHERE, shortened(error.evalue))
        part.replace(failed)
        return Outcome(cell.name, "failed", shortened(f"{error.ename}: {error.evalue}"))
    part.replace(output)  # a notebook under its own name is a whole one
    failed.unlink(missing_ok=True)
    return Outcome(cell.name, read_status(Path(cell.folder)).get("state", "failed"))


class Grid:
    """What a grid file says, checked.

    configs: of the cells, by name. own: the notebook is the user's, and nobody else knows what it trains.
    """

    def __init__(
        self, cells: list[Cell], configs: dict[str, Config], results_dir: Path, executor: Executor, own: bool = False
    ):
        self.cells, self.configs, self.results_dir, self.executor, self.own = cells, configs, results_dir, executor, own


def read_grid(path: str | Path) -> Grid:
    """The grid of a JSON or YAML file. Raises UserError for anything wrong in any cell, before one is run."""
    data = read_file(path, "grid file", "grid, settings, ...")
    return make_grid(**check_options("grid file", make_grid, data))


def make_grid(
    *,
    grid: dict[str, list[Any]],
    settings: dict[str, Any] | None = None,
    results_dir: str = "results/sweep",
    parallel: int | None = None,
    executor: str | dict[str, Any] | None = None,
    threads: int = 1,
    notebook: str | None = None,
) -> Grid:
    """Every combination of the values in `grid`, as cells. threads: of torch, per process; see the module.

    parallel: so many processes of this machine, default 1; or executor: see `lop.executors`.
    """
    require(COUNT, parallel=parallel, threads=threads)
    if executor is not None and parallel is not None:
        raise UserError("give it as an option of the executor, e.g. {name: local, parallel: 2}", option="parallel")
    carried_out = LocalProcesses(parallel=parallel or 1) if executor is None else make_executor(executor)
    source, results = find_notebook(notebook), results_folder(results_dir)
    axes = {name: values for name, values in grid.items() if values}
    size = 1
    for values in axes.values():
        size *= len(values)
    if not axes or size > MOST_CELLS:
        raise UserError(f"expected 1..{MOST_CELLS} cells, got {size if axes else 0}", option="grid", joint=": ")
    cells: dict[str, Cell] = {}
    configs: dict[str, Config] = {}
    for chosen in itertools.product(*axes.values()):
        cell = {**(settings or {}), **dict(zip(axes, chosen, strict=True))}
        parameters, config = cell_parameters(cell, str(results), threads)
        name = config.run_name()
        if name in cells:
            raise UserError(f"grid: two cells are the same run, {name}; make their settings differ or drop one")
        output = results / "notebooks" / f"{name}.ipynb"
        configs[name] = config
        cells[name] = Cell(name, str(source), str(output), str(run_folder_of(config)), parameters)
    return Grid(list(cells.values()), configs, results, carried_out, notebook is not None)


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
    """The notebook that runs a cell: the one given, or run-expr.ipynb here or as it came with the package."""
    path = Path(notebook or "run-expr.ipynb")
    if path.exists():
        return path
    if notebook:
        raise UserError(f"notebook: {path} not found; give its path")
    return shipped_notebooks()[0]


def is_done(cell: Cell) -> bool:
    """The run has ended and its notebook is whole."""
    try:
        ended = read_status(Path(cell.folder)).get("state") in ENDED
    except UserError:  # a damaged one: the run says so
        return False
    return ended and Path(cell.output).exists()


def jobs_of(grid: Grid, cells: Sequence[Cell]) -> list[Job]:
    """The jobs that carry out these cells: populations, or a job for each where the notebook is the user's own."""
    configs = [grid.configs[cell.name] for cell in cells]
    by_name = {cell.name: cell for cell in cells}
    progress = str(grid.results_dir / ".progress")
    jobs = []
    for members in [[config] for config in configs] if grid.own else populations(configs):
        own = [by_name[config.run_name()] for config in members]
        files = [cell.output for cell in own]
        jobs.append(job_of(members, extras=[asdict(cell) for cell in own], files=files, progress=progress))
    return jobs


def sweep(grid: Grid, executor: Executor | None = None, report: Callable[[str], None] = print) -> list[Outcome]:
    """Carry out what is not done yet; returns an outcome per cell, in the grid's order.

    Writes `sweep.json` (every cell with its outcome) into the results folder.
    """
    executor = executor or grid.executor
    outcomes = {cell.name: Outcome(cell.name, "done before") for cell in grid.cells if is_done(cell)}
    todo = [cell for cell in grid.cells if cell.name not in outcomes]
    report(f"{len(grid.cells)} cells, {len(outcomes)} done before, {len(todo)} to run")
    began = time.monotonic()
    for number, outcome in enumerate(executor.run(jobs_of(grid, todo), execute), 1):
        outcomes[outcome.name] = outcome
        left = (time.monotonic() - began) / number * (len(todo) - number)
        report(
            f"[{number}/{len(todo)}] {outcome.state}: {outcome.name}"
            + (f" ({outcome.detail})" if outcome.detail else "")
            + (f", about {duration(left)} left" if number < len(todo) else "")
        )
    ordered = [outcomes[cell.name] for cell in grid.cells]
    make_folder(grid.results_dir)
    rows = [{**asdict(cell), **asdict(outcome)} for cell, outcome in zip(grid.cells, ordered, strict=True)]
    with disk_errors(grid.results_dir), FileLock(grid.results_dir / ".sweep.lock"):  # another sweep may end now, too
        write_text(grid.results_dir / "sweep.json", json.dumps(rows, indent=2) + "\n")
    return ordered
