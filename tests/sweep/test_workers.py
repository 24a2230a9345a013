"""Cells in processes of their own: none outlives its sweep or takes another along; two sweeps share a grid."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from filelock import FileLock

from lop.executors import ELSEWHERE, LocalProcesses
from lop.executors.workers import WorkerDiedError, Workers
from lop.runs import RunFolder
from lop.sweep import execute_cell, make_grid, sweep

ROOT = Path(__file__).parents[2]
PARAMETERS = """\
optimizer = benchmark = seed = num_tasks = results_dir = device = None
baseline, overrides = True, {}
"""
# what FINISH leaves behind, without the seconds that it takes to import the package
WRITTEN = """\
import json, pathlib
folder = pathlib.Path(json.loads(pathlib.Path(results_dir + ".json").read_text())[str(seed)])
folder.mkdir(parents=True)
(folder / "status.json").write_text('{"state": "finished"}')
"""
FINISH = """\
from lop.plan import plan
from lop.runs import RunFolder
config = plan(optimizer=optimizer, seed=seed, results_dir=results_dir, baseline=baseline, overrides=overrides)[0]
with RunFolder(config) as folder:
    folder.set_status("finished")
"""


def write_notebook(path: Path, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in (PARAMETERS, *cells)]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path


def grid_with(tmp_path, *cells, seeds=(0, 1), parallel=2):
    notebook = write_notebook(tmp_path / "cell.ipynb", *cells)
    axes = {"optimizer": ["sgd"], "seed": list(seeds)}
    grid = make_grid(grid=axes, results_dir=str(tmp_path / "results"), parallel=parallel, notebook=str(notebook))
    folders = {cell.parameters["seed"]: cell.folder for cell in grid.cells}
    (tmp_path / "results.json").write_text(json.dumps(folders))
    return grid


def wait_for(what, seconds: float = 400) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# a suite started in the background ignores interrupts, and what it starts would, too
SWEEP = """\
import signal, sys
from lop.sweep import read_grid, sweep
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sweep(read_grid(sys.argv[1]))
"""


@pytest.mark.parametrize(("ending", "seeds"), [("kill", [0, 1]), ("interrupt", [0])])
def test_workers_and_kernels_end_with_the_sweep(tmp_path, ending, seeds):
    """Notebooks that would sleep for ten minutes."""
    sleeping = "import os, pathlib, time\npathlib.Path(f'{results_dir}-{seed}').touch()\ntime.sleep(600)"
    notebook = write_notebook(tmp_path / "cell.ipynb", sleeping)
    grid = tmp_path / "grid.yaml"
    results = tmp_path / "results"
    grid.write_text(f"grid: {{seed: {seeds}}}\nnotebook: {notebook}\nresults_dir: {results}\nparallel: 2\n")
    (tmp_path / "run_sweep.py").write_text(SWEEP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lop-src")}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "run_sweep.py"), str(grid)], env=environment)
    try:
        wait_for(lambda: all(Path(f"{results}-{seed}").exists() for seed in seeds))
        family = psutil.Process(parent.pid).children(recursive=True)
        assert sum("ipykernel_launcher" in " ".join(process.cmdline()) for process in family) == len(seeds)
        assert len(family) >= 2 * len(seeds)
    finally:
        parent.send_signal(subprocess.signal.SIGKILL if ending == "kill" else subprocess.signal.SIGINT)
    parent.wait(timeout=30)
    wait_for(lambda: not any(map(alive, family)), 30)


def test_a_killed_process_fails_its_cell_and_no_other(tmp_path):
    kill = "import os, signal\nif seed == 1:\n    os.kill(os.getppid(), signal.SIGKILL)"
    grid = grid_with(tmp_path, kill, WRITTEN, seeds=(0, 1, 2))
    outcomes = sweep(grid, report=lambda line: None)
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "finished"]
    assert "its process was killed" in outcomes[1].detail


def test_a_cell_that_another_sweep_runs_is_left_to_it(tmp_path):
    (cell,) = grid_with(tmp_path, WRITTEN, seeds=(0,)).cells
    output = Path(cell.output)
    output.parent.mkdir(parents=True)
    part = output.with_suffix(".part.ipynb")
    part.write_text("the other sweep's")
    with FileLock(output.parent / f".{output.stem}.lock"):
        outcome = execute_cell(cell)
    assert (outcome.state, part.read_text()) == (ELSEWHERE, "the other sweep's")
    assert execute_cell(cell).state == "finished"
    assert not part.exists()
    written = output.stat().st_mtime_ns
    assert execute_cell(cell).state == "done before"  # by the other sweep, since this one looked
    assert output.stat().st_mtime_ns == written


def test_a_run_that_another_process_holds_is_reported_so(tmp_path):
    from lop.notebook import plan

    grid = grid_with(tmp_path, FINISH, seeds=(0,))
    (cell,) = grid.cells
    (config,) = plan(**cell.parameters)
    lines = []
    with RunFolder(config):
        (outcome,) = sweep(grid, LocalProcesses(parallel=1), report=lines.append)
    assert outcome.state == ELSEWHERE
    assert "another process is running here" in outcome.detail
    assert not list(Path(cell.output).parent.glob("*.ipynb"))  # neither a failure nor a part
    assert any(line.startswith("[1/1] running elsewhere: ") for line in lines)
    (outcome,) = sweep(grid, LocalProcesses(parallel=1), report=lines.append)
    assert outcome.state == "finished"


def test_a_damaged_status_fails_its_cell_and_no_other(tmp_path):
    grid = grid_with(tmp_path, FINISH, parallel=1)
    Path(grid.cells[0].folder).mkdir(parents=True)
    Path(grid.cells[0].folder, "status.json").write_text("[")
    Path(grid.cells[0].folder, ".run-folder").touch()
    outcomes = sweep(grid, report=lambda line: None)
    assert [outcome.state for outcome in outcomes] == ["failed", "finished"]
    assert "not the status of a run" in outcomes[0].detail


def test_the_command_says_to_run_it_again(tmp_path, monkeypatch, capsys):
    from lop.cli import RESUME_ME, main

    notebook = write_notebook(tmp_path / "cell.ipynb", FINISH)
    path = tmp_path / "grid.yaml"
    path.write_text(f"grid: {{seed: [0]}}\nnotebook: {notebook}\nresults_dir: {tmp_path / 'results'}\n")
    (cell,) = make_grid(grid={"seed": [0]}, notebook=str(notebook), results_dir=str(tmp_path / "results")).cells
    output = Path(cell.output)
    output.parent.mkdir(parents=True)
    with FileLock(output.parent / f".{output.stem}.lock"):
        assert main(["sweep", "-c", str(path)]) == RESUME_ME
    assert "1 running elsewhere" in capsys.readouterr().out


def test_a_call_answers_or_says_that_its_process_died():
    with Workers() as workers:
        assert workers.call(len, "four") == 4
        with pytest.raises(WorkerDiedError):
            workers.call(os._exit, 3)
