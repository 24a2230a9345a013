"""Whole sessions on Kaggle and Colab: a fresh environment, no network, read-only input, the notebook top to bottom."""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import build
import kaggle_bundle
import pandas as pd
import pytest

from lop.notebook import plan
from lop.runner import run

ROOT = Path(__file__).parents[2]
PARAMETERS = {
    "optimizer": "sassha",
    "seed": 0,
    "num_tasks": 2,
    "baseline": False,
    "device": "cpu",
    "overrides": {"benchmark.epochs": 1, "net.hidden": [12, 12], "run.threads": 1},
}


@pytest.fixture
def attached(wheels, tmp_path) -> Path:
    """Kaggle's folders with the data sets of the bundle."""
    kaggle_bundle.bundle("someone", tmp_path / "bundle", wheels, tmp_path / "no-data")
    root = tmp_path / "kaggle"
    (root / "input" / "datasets" / "someone").mkdir(parents=True)
    shutil.copytree(tmp_path / "bundle" / "datasets" / "packages", root / "input" / "lop-packages")
    shutil.copytree(tmp_path / "bundle" / "datasets" / "source", root / "input" / "datasets" / "someone" / "lop-source")
    shutil.copytree(tmp_path / "bundle" / "kernel", root / "working")
    return root


def test_two_sessions_on_kaggle(attached, wheels, tmp_path, make_session, texts):
    bundled = {build.normalised(path.name.split("-")[0]) for path in wheels.glob("*.whl")}
    environment = {"LOP_KAGGLE_ROOT": str(attached), "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    arguments = (attached / "working" / "run-expr.ipynb", attached / "working", environment, attached / "input")

    first = make_session(tmp_path / "first", bundled)
    notebook, finished = first.run(*arguments, time_limit_hours=1e-9, **PARAMETERS)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert first.installed() == bundled  # and so neither torch nor numpy
    said = texts(notebook)
    assert "place: kaggle" in said
    assert "run this notebook again" in said
    (folder,) = (attached / "working" / "results").iterdir()
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"

    shutil.move(attached / "working" / "results", attached / "input" / "loss-of-plasticity" / "results")
    for path in (attached / "input").rglob("*"):
        path.chmod(path.stat().st_mode & 0o555)
    second = make_session(tmp_path / "second", bundled)
    notebook, finished = second.run(*arguments, **PARAMETERS)
    assert finished.returncode == 0, finished.stderr[-3000:]
    said = texts(notebook)
    assert f"goes on from {attached / 'input' / 'loss-of-plasticity' / 'results' / folder.name}" in said
    assert "Task 1 Summary" in said
    assert "digits from scikit-learn" in said
    resumed = pd.read_csv(folder / "tasks.csv")

    (config,) = plan(results_dir=str(tmp_path / "alone"), **PARAMETERS)
    alone = run(config, summaries=False)
    assert alone.folder.name == folder.name
    pd.testing.assert_frame_equal(resumed, pd.read_csv(alone.folder / "tasks.csv"))


def test_a_session_on_colab(tmp_path, make_session, texts):
    """The notebook alone in an empty folder; the repository comes by git, everything else is preinstalled."""
    repository, content = tmp_path / "repository", tmp_path / "content"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "lop-src", repository / "lop-src", ignore=ignored)
    (repository / "lop-packages").mkdir()
    for name in ("pyproject.toml", "README.md", "run-expr.ipynb", "lop-packages/install_lop.py"):
        shutil.copy(ROOT / name, repository / name)
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    content.mkdir()
    shutil.copy(ROOT / "run-expr.ipynb", content)
    session = make_session(tmp_path / "session", {"lop"})
    environment = {"COLAB_RELEASE_TAG": "release-colab"}
    parameters = {**PARAMETERS, "repository": str(repository), "num_tasks": 1}
    notebook, finished = session.run(content / "run-expr.ipynb", content, environment, repository, **parameters)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert session.installed() == {"lop"}
    assert "place: colab" in texts(notebook)
    assert "Task 0 Summary" in texts(notebook)
    assert len(list((content / "results").glob("*/tasks.csv"))) == 1


def test_the_session_is_cut_off(tmp_path, make_session):
    """What the tests above rest on."""
    (tmp_path / "input").mkdir()
    session = make_session(tmp_path / "session", {"lop"})
    script = tmp_path / "try.py"
    script.write_text(
        "import importlib.util, socket\n"
        "print('lop' if importlib.util.find_spec('lop') else 'no lop')\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=5)\n"
        "except OSError as error:\n    print(error.errno)\n"
    )
    command = [sys.executable, str(ROOT / "tests" / "kaggle" / "offline.py"), str(tmp_path / "input"), "--"]
    found = subprocess.run(
        [*command, str(session.python), str(script)], env=session.environment(), capture_output=True, text=True
    )
    assert found.stdout.split("\n")[:2] == ["no lop", "101"], found  # 101: network is unreachable
    assert metadata.version("lop")
