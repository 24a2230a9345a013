"""Every notebook: in step with its source, without outputs, and run from top to bottom in a small form."""

import re
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
    wanted = {"optimizer", "benchmark", "algos", "seeds", "seed", "num_tasks", "config", "data_dir", "results_dir"}
    assert wanted | {"time_limit_hours", "resume", "baseline", "dataset", "lr", "device", "overrides"} <= names


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(folder, notebook): a method of two seeds and its baseline."""
    folder = tmp_path_factory.mktemp("executed")
    return folder, execute(folder, num_tasks=2, algos="sdp, ema", seeds="3-4", optimizer="sassha", lr=0.01)


def test_the_notebook_runs_and_says_what_it_did(executed):
    folder, notebook = executed
    said = texts(notebook)
    assert "Task 0 Summary" in said
    assert "Task 1 Summary" in said
    assert "Task 2 Summary" not in said
    assert "digits from scikit-learn" in said
    assert "sassha + sdp + ema" in said
    assert "2/2" in said  # progress, as text
    assert "*cost*: training time as a multiple of that of sgd" in said
    assert "| cost (" in said
    assert "sassha + sdp + ema, sgd (2 seeds each) on permuted_digits: 2 tasks of 445 steps, about" in said
    assert "2 runs, accuracy" in said  # progress, as mean and spread
    assert "**Two seeds decide nothing.**" in said
    assert images(notebook) >= 6
    folders = sorted(path.parent.name for path in (folder / "results").glob("*/tasks.csv"))
    assert len(folders) == 4
    assert any("sgd-s3" in name for name in folders)


def test_the_answer_comes_before_the_figures_and_long_blocks_are_folded(executed):
    _, notebook = executed
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    answer = next(i for i, data in enumerate(outputs) if "## What came out" in data.get("text/markdown", ""))
    assert not any("image/png" in data for data in outputs[:answer])
    assert "image/png" in outputs[answer + 1]
    assert not any("Task 0 Summary" in str(data) for data in outputs[:answer])  # live only
    folded = [data["text/html"] for data in outputs if "Task 0 Summary" in data.get("text/html", "")]
    assert len(folded) == 2
    assert all(text.startswith("<details><summary>Task summaries of ") for text in folded)
    text = outputs[answer]["text/markdown"]
    headings = [
        line[3:] for data in outputs for line in data.get("text/markdown", "").splitlines() if line[:3] == "## "
    ]
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert links == [heading.replace(" ", "-") for heading in headings[1:]]


def test_nothing_finished_is_one_sentence_without_headings(tmp_path):
    notebook = execute(tmp_path, num_tasks=2, seed=0, time_limit_hours=1e-9)
    said = texts(notebook)
    assert said.count("No task was finished yet") == 1
    assert "##" not in said
    assert images(notebook) == 0
    headings = [cell for cell in notebook.cells if cell.cell_type == "markdown" and cell.source.startswith("## ")]
    assert headings == []


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
    parameters |= {"seeds": "0,2", "baseline": "False", "results_dir": str(tmp_path / "results")}
    for name, value in parameters.items():
        command += ["-p", name, value]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-2000:]
    folders = sorted((tmp_path / "results").iterdir())
    assert [folder.name.split("-")[2] for folder in folders] == ["s0", "s2"]
    for folder in folders:
        assert '"hidden": [\n      8,\n      9\n    ]' in (folder / "config.json").read_text()
