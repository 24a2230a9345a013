"""The other notebooks, cell by cell in this process, in a small form: embedded, generated or missing data."""

from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import jupytext
import pytest
import yaml
from generated_data import write_cifar, write_class_files
from in_process import Here

from lop.executors import EXECUTORS
from lop.notebook import run_parameters
from lop.runs import load, read_config

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TINY = {"run.threads": 1, "run.device": "cpu", "benchmark.num_tasks": 2}
CNN = {**TINY, "benchmark.verify": False, "benchmark.batch_size": 10}


def play(name: str, **parameters) -> dict:
    """The names that the notebook's cells leave behind."""
    names = {}
    for cell in jupytext.read(NOTEBOOKS / f"{name}.py").cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", []):
                assert set(parameters) <= set(names)
                names |= parameters
    return names


@pytest.fixture
def shown(monkeypatch) -> list:
    """What the cells display."""
    found = []
    monkeypatch.setattr("IPython.display.display", lambda *values, **options: found.extend(values))
    return found


def code(path: Path) -> list[str]:
    """The lines of a notebook, without the head that all have."""
    return [line for cell in jupytext.read(path).cells for line in cell.source.splitlines() if line.strip()]


def test_notebooks_share_functions_not_lines():
    sources = {path.stem: code(path) for path in NOTEBOOKS.glob("*.py")}
    for (one, left), (other, right) in combinations(sources.items(), 2):
        block = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
        shared = left[block.a : block.a + block.size]
        assert len(shared) <= 7, f"{one} and {other}: {shared}"


def test_what_the_parameters_cell_says_is_what_is_run(tmp_path, capsys):
    asked = {"benchmark": "permuted_digits", "methods": ["bp"], "seeds": [3], "results_dir": str(tmp_path)}
    small = {"benchmark.num_tasks": 2, "benchmark.batch_size": 500, "net.hidden": [8], "run.diagnostics": False}
    results = run_parameters({**asked, "overrides": small, "num_tasks": 1, "threads": 1, "name": "of a loop"})
    config = read_config(Path(results.runs["folder"].item()))
    assert (config.run.seed, config.run.threads, config.benchmark.options["num_tasks"]) == (3, 1, 2)


def figures(shown: list) -> int:
    return sum(hasattr(value, "savefig") for value in shown)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("permuted_mnist", {**TINY, "benchmark.epochs": 1, "net.hidden": [8]}),
        ("regression", {**TINY, "benchmark.flip_every": 400}),
        ("random_labels", {**TINY, "benchmark.epochs": 1, "benchmark.num_examples": 200, "net.hidden": [8]}),
    ],
)
def test_notebooks_that_need_no_download(tmp_path, shown, name, overrides):
    names = play(name, results_dir=str(tmp_path / "results"), overrides=overrides, seeds="0-1")
    assert len(load(tmp_path / "results").runs) == 2 * len(names["methods"])
    (said,) = [value.data for value in shown if "What came out" in getattr(value, "data", "")]
    assert "**Two seeds decide nothing.**" in said
    assert figures(shown) >= 4
    (table,) = [value.data for value in shown if "| cost (" in getattr(value, "data", "")]
    assert "*early* and *late*" in table  # with what its columns mean


@pytest.mark.parametrize(
    ("name", "overrides", "methods"),
    [
        ("five_plus_one", {**CNN, "benchmark.steps_per_task": 2}, ["bp", "l2_init"]),
        ("imagenet", {**CNN, "benchmark.epochs": 1, "benchmark.train_per_class": 10}, ["bp"]),
    ],
)
def test_notebooks_with_images(tmp_path, shown, name, overrides, methods):
    if name == "imagenet":
        write_class_files(tmp_path / "data" / "imagenet32" / "classes", classes=6)
    else:
        write_cifar(tmp_path / "data" / "cifar-100-python", train=20, test=4)
        overrides = {**overrides, "benchmark.dataset": str(tmp_path / "data" / "cifar-100-python")}
    folders = {"results_dir": str(tmp_path / "results"), "data_dir": str(tmp_path / "data")}
    play(name, **folders, overrides=overrides, methods=methods)
    assert len(load(tmp_path / "results").runs) == len(methods)
    assert figures(shown) >= 4


@pytest.mark.parametrize("name", ["five_plus_one", "imagenet", "incremental_cifar"])
def test_missing_data_are_one_line_that_says_how_to_get_them(tmp_path, monkeypatch, shown, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    play(name, results_dir=str(tmp_path / "results"), data_dir=str(tmp_path / "data"))
    assert capsys.readouterr().out.count("python download_data.py") == 1
    assert figures(shown) == 0


def test_the_tutorial(tmp_path, shown):
    from lop.optimizers import OPTIMIZERS

    names = play("tutorial", num_tasks=2, seeds=[0], results_dir=str(tmp_path))
    assert OPTIMIZERS.pop("spring") is names["SpringAdam"]
    labels = set(names["everything"].tasks["label"])
    assert labels == {"adam", "adam + l2_init", "adam + cbp", "adam + shrink_and_perturb", "spring"}
    assert figures(shown) == 8


def test_the_report_of_a_study(tmp_path, shown, monkeypatch):
    """It trains what is missing, and only reads what is there."""

    here = Here()
    monkeypatch.setitem(EXECUTORS, "here", lambda: here)
    own = {**TINY, "benchmark.num_tasks": 8, "benchmark.epochs": 1, "net.hidden": [4]}
    study = {
        "benchmarks": {"digits": {"benchmark": "permuted_digits", "set": own}},
        "methods": {
            "sgd": {"optimizer": "sgd", "tune": {"optimizer.lr": [0.1, 0.3]}},
            "adam": {"optimizer": "adam", "set": {"optimizer.lr": 0.003}},
        },
        "tuning": {"seeds": 9, "extend": 0},
        "evaluation": {"seeds": "0-1"},
        "results_dir": str(tmp_path / "results"),
        "executor": "here",
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(study))
    play("study", study=str(path))
    assert len(here.names) == 3  # populations: tuning, and the evaluation of each method
    answer = next(value.data for value in shown if "has the best mean online accuracy" in getattr(value, "data", ""))
    assert "## Limits" in answer
    assert any("| method | seeds | Early |" in getattr(value, "data", "") for value in shown)
    assert figures(shown) >= 5
    play("study", study=str(path), overrides={"evaluation.seeds": "0-1"})
    assert len(here.names) == 3


def test_compare_trains_a_demonstration_only_where_there_is_nothing(tmp_path, shown, capsys):
    folder = tmp_path / "results"
    play("compare", results_dir=str(folder), num_tasks=2, seeds=[0])
    assert "training a small demonstration" in capsys.readouterr().out
    runs = len(load(folder).runs)
    assert runs == 8
    before = figures(shown)
    assert before >= 3
    names = play("compare", results_dir=str(folder))
    assert "demonstration" not in capsys.readouterr().out
    assert len(load(folder).runs) == runs
    assert sorted(names["tasks"]["label"].unique()) == ["adahessian", "adam", "sgd"]  # each with its best step size
    assert names["tasks"]["run"].nunique() == 3


def test_reinforcement_learning(tmp_path, shown, capsys):
    tiny = {"benchmark.rollout_steps": 64, "benchmark.epochs": 1, "benchmark.minibatches": 2, "net.hidden": [8, 8]}
    settings = {"num_tasks": 2, "task_steps": 128, "movie_seconds": 0.1, "overrides": tiny}
    names = play("reinforcement_learning", results_dir=str(tmp_path), **settings)
    assert list(names["tasks"]["label"].unique()) == ["std", "sassha_sdp"]
    assert (names["tasks"]["diverged_step"] == -1).all()
    assert figures(shown) == 5
    assert "Hopper" in capsys.readouterr().out
