"""Grids: their cells, what is run again and what is not, and one real sweep."""

import json
from dataclasses import asdict
from pathlib import Path

import nbformat
import pytest

from lop.cli import main
from lop.executors import Outcome
from lop.runs import load
from lop.sweep import Cell, jobs_of, make_grid, read_grid, sweep
from lop.utils.errors import UserError

ROOT = Path(__file__).parents[2]


class Recorded:
    """An executor that runs nothing: the interface another engine fills."""

    def __init__(self, state="finished"):
        self.state, self.jobs = state, []

    def run(self, jobs, work):
        self.jobs += jobs
        for cell in [Cell(**extra) for job in reversed(jobs) for extra in job.extras]:
            if self.state == "finished":
                Path(cell.folder).mkdir(parents=True)
                Path(cell.folder, "status.json").write_text('{"state": "finished"}')
                Path(cell.output).parent.mkdir(exist_ok=True)
                Path(cell.output).write_text("{}")
            yield Outcome(cell.name, self.state, "why")


def grid_of(tmp_path, **changes):
    axes = {"optimizer": ["sgd", "sassha"], "seed": [0, 1], "net.hidden": [[5], [6, 7]]}
    settings = {"settings": {"num_tasks": 2}, "results_dir": str(tmp_path / "results")}
    return make_grid(**{"grid": axes, **settings, **changes})


def test_a_cell_for_every_combination(tmp_path):
    grid = grid_of(tmp_path)
    cells = grid.cells
    found = {
        (c.parameters["optimizer"], c.parameters["seed"], str(c.parameters["overrides"]["net.hidden"])) for c in cells
    }
    assert len(cells) == len(found) == 8
    assert ("sassha", 1, "[6, 7]") in found
    assert len({cell.folder for cell in cells} | {cell.output for cell in cells}) == 16
    assert all(cell.parameters["num_tasks"] == 2 and not cell.parameters["baseline"] for cell in cells)
    json.dumps([asdict(job) for job in jobs_of(grid, cells)])  # can travel


def test_cells_that_differ_in_seed_and_numbers_are_one_population(tmp_path):
    axes = {"optimizer": ["sgd", "sassha"], "seed": [0, 1, 2], "optimizer.lr": [0.1, 0.2], "net.hidden": [[5]]}
    grid = grid_of(tmp_path, grid=axes)
    assert [len(job.names) for job in jobs_of(grid, grid.cells)] == [6, 6]
    assert [len(job.names) for job in jobs_of(grid, grid.cells[1:])] == [5, 6]  # without what is done
    few = grid_of(tmp_path, grid={**axes, "run.population": [4]})
    assert [len(job.names) for job in jobs_of(few, few.cells)] == [3, 3, 3, 3]  # no more at once, of like sizes
    own = tmp_path / "own.ipynb"
    own.write_text("{}")
    left = grid_of(tmp_path, grid=axes, notebook=str(own))
    assert [len(job.names) for job in jobs_of(left, left.cells)] == [1] * 12


def test_folders_are_those_that_the_runs_will_use(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    grid = grid_of(tmp_path, results_dir="~/results")
    assert grid.results_dir == tmp_path / "results"
    for cell in grid.cells:
        assert Path(cell.folder) == tmp_path / "results" / cell.name
        assert Path(cell.output).parent == tmp_path / "results" / "notebooks"
        assert cell.parameters["results_dir"] == str(tmp_path / "results")
    with pytest.raises(UserError, match=r"run\.name: 'old-x' must not begin with"):
        grid_of(tmp_path, grid={"run.name": ["old-x"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"optimizer": ["sgd", "sasha"]}}, "sasha"),
        ({"grid": {"optimiser": ["sgd"]}}, "optimiser: unknown key; did you mean 'optimizer'"),
        ({"grid": {"optimizer.lrr": [1.0]}}, "optimizer.lrr"),
        ({"grid": {}}, "grid: expected"),
        ({"grid": {"seed": [0, 0]}}, "two cells are the same run"),
        ({"parallel": 0}, "parallel"),
        ({"executor": {"name": "local", "paralel": 2}}, "executor.paralel: unknown key; did you mean 'parallel'"),
        ({"executor": "loca"}, "unknown executor 'loca'"),
        ({"executor": "local", "parallel": 2}, "parallel give it as an option of the executor"),
        ({"notebook": "nowhere.ipynb"}, "nowhere.ipynb not found"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        grid_of(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_a_grid_file_is_checked_like_a_config(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("grid: {seed: [0]}\nparralel: 2\n")
    with pytest.raises(UserError, match=r"parralel: unknown key; .*parallel"):
        read_grid(path)
    path.write_text("grid: {seed: [4], optimizer.lr: [0.5]}\nparallel: 3\n")
    grid = read_grid(path)
    assert grid.executor.parallel == 3
    assert grid.cells[0].parameters["overrides"]["optimizer.lr"] == 0.5


def test_what_is_done_is_not_run_again(tmp_path):
    grid, first, second, third = grid_of(tmp_path), Recorded(), Recorded(), Recorded()
    said = []
    outcomes = sweep(grid, first, said.append)
    assert [outcome.name for outcome in outcomes] == [cell.name for cell in grid.cells]  # whatever order they came in
    assert [" left" in line for line in said[1:]] == [True] * 7 + [False]  # how long the rest will take
    assert {outcome.state for outcome in sweep(grid, second, said.append)} == {"done before"}
    assert second.jobs == []
    Path(grid.cells[0].output).unlink()
    for path in Path(grid.cells[0].folder).iterdir():
        path.unlink()
    Path(grid.cells[0].folder).rmdir()
    sweep(grid, third, said.append)
    assert [job.names for job in third.jobs] == [[grid.cells[0].name]]
    assert "8 cells, 7 done before, 1 to run" in said
    table = json.loads((grid.results_dir / "sweep.json").read_text())
    assert [row["state"] for row in table] == ["finished"] + ["done before"] * 7


def test_the_command_runs_lists_failures_and_goes_on(tmp_path, monkeypatch, capsys):
    """Two cells in two processes; one fails when its notebook runs, for a data set that is not there."""
    path, results = tmp_path / "grid.yaml", tmp_path / "results"
    text = (
        "grid: {dataset: [digits, not/here]}\n"
        "settings: {optimizer: sgd, num_tasks: 1, benchmark.epochs: 1, net.hidden: [8], device: cpu}\n"
        f"results_dir: {results}\nparallel: 2\n"
    )
    path.write_text(text)
    monkeypatch.chdir(ROOT)
    status, first = main(["sweep", "-c", str(path)]), capsys.readouterr()
    assert status == 1, first.err
    assert "failed:" in first.err
    assert "not/here" in first.err
    assert "1 finished" in first.out
    assert load(results).runs.set_index("state").loc["finished", "tasks_done"] == 1
    (notebook,) = [p for p in (results / "notebooks").glob("*.ipynb") if "failed" not in p.name]
    assert any(cell.get("outputs") for cell in nbformat.read(notebook, as_version=4).cells)
    path.write_text(text.replace(", not/here", ""))
    assert main(["sweep", "-c", str(path)]) == 0
    assert "1 cells, 1 done before, 0 to run" in capsys.readouterr().out
