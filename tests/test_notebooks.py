"""Every notebook: in step with its source, without outputs, and run from top to bottom in a small form."""

import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted([ROOT / "run-expr.ipynb", *(ROOT / "notebooks").glob("*.ipynb")])
MAIN = ROOT / "run-expr.ipynb"


def texts(notebook) -> str:
    """All outputs of an executed notebook that are text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            found.append(output.get("text") or data.get("text/markdown") or data.get("text/plain", ""))
    return "\n".join(found)


def images(notebook) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def execute(tmp_path: Path, **parameters):
    output = tmp_path / "out.ipynb"
    parameters = {"results_dir": str(tmp_path / "results"), "device": "cpu", **parameters}
    arguments = {"kernel_name": "python3", "progress_bar": False, "cwd": str(ROOT)}
    try:
        papermill.execute_notebook(str(MAIN), str(output), parameters, **arguments)
    finally:
        result = nbformat.read(output, as_version=4)
    return result


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_pairs_are_in_step(path):
    notebook, source = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ], "run `make notebooks`"
    tags = [[cell.metadata.get("tags", []) for cell in one.cells] for one in (notebook, source)]
    assert tags[0] == tags[1]
    assert notebook.metadata.kernelspec.name == "python3"


def test_every_notebook_source_has_its_notebook():
    sources = [path for path in (ROOT / "notebooks").glob("*.py") if "jupytext" in path.read_text(encoding="utf-8")]
    assert {path.with_suffix(".ipynb") for path in [*sources, ROOT / "run-expr.py"]} == set(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_outputs_are_committed(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_one_cell_holds_the_parameters():
    tagged = [cell for cell in nbformat.read(MAIN, as_version=4).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = {line.split(" = ")[0] for line in tagged[0].source.splitlines()}
    wanted = {"optimizer", "benchmark", "algos", "seed", "num_tasks", "config", "data_dir", "results_dir"}
    assert wanted | {"time_limit_hours", "resume", "baseline", "dataset", "lr", "device", "overrides"} <= names


def test_the_notebook_runs_and_says_what_it_did(tmp_path):
    notebook = execute(tmp_path, num_tasks=2, algos="sdp, ema", seed=3, optimizer="sassha", lr=0.01)
    said = texts(notebook)
    assert "Task 0 Summary" in said
    assert "Task 1 Summary" in said
    assert "Task 2 Summary" not in said
    assert "digits from scikit-learn" in said
    assert "sassha + sdp + ema" in said
    assert "2/2" in said  # progress, as text
    assert "*cost*: training time as a multiple of that of sgd" in said
    assert "| cost |" in said
    assert images(notebook) >= 6
    folders = sorted(path.parent.name for path in (tmp_path / "results").glob("*/tasks.csv"))
    assert len(folders) == 2
    assert any("sgd-s3" in name for name in folders)


def test_a_mistake_is_one_line_and_fails(tmp_path):
    with pytest.raises(PapermillExecutionError, match="sassha"):
        execute(tmp_path, optimizer="sasha", num_tasks=1)
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    (error,) = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert len(error.traceback) == 1
    assert "unknown optimizer 'sasha'" in error.traceback[0]


def test_parameters_by_the_command_line(tmp_path):
    """As a user types it: everything is text or a number."""
    output = tmp_path / "out.ipynb"
    parameters = {"num_tasks": "1", "optimizer": "sgd", "lr": "0.05", "overrides": "net.hidden=[8, 9], run.threads=1"}
    command = [sys.executable, "-m", "papermill", str(MAIN), str(output), "-k", "python3"]
    for name, value in {**parameters, "baseline": "False", "results_dir": str(tmp_path / "results")}.items():
        command += ["-p", name, value]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-2000:]
    (folder,) = (tmp_path / "results").iterdir()
    assert '"hidden": [\n      8,\n      9\n    ]' in (folder / "config.json").read_text()
