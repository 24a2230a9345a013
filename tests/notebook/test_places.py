"""Kaggle's and Colab's own ways."""

import sys
import zipfile
from types import ModuleType, SimpleNamespace

import pytest
from generated_data import write_idx

from lop.notebook import hand_out, places
from lop.notebook.choice import configs_of
from lop.notebook.places import gpu_defaults, thin
from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("LOP_KAGGLE_ROOT", str(tmp_path))
    monkeypatch.setattr(places.torch.cuda, "is_available", lambda: True)
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


def test_a_gpu_gets_thirty_seeds_of_what_is_attached(kaggle, capsys):
    assert gpu_defaults({}) == {"seeds": "0-29"}  # of the digits
    write_idx(kaggle / "fashion-mnist")
    given = gpu_defaults({"num_tasks": 7})
    assert (given["benchmark"], given["seeds"]) == ("permuted_mnist", "0-29")
    assert "num_tasks" not in given
    assert f"dataset {given['dataset']}" in capsys.readouterr().out  # it says what it uses
    configs = configs_of(baseline=False)
    assert len(configs) == 30
    assert configs[0].net.options["hidden"] == [100, 100, 100]
    assert configs[0].benchmark.options["dataset"] == given["dataset"]


def test_what_was_chosen_is_trained(kaggle, monkeypatch):
    assert gpu_defaults({"benchmark": "permuted_digits"}) == gpu_defaults({"device": "cpu"}) == {}
    assert gpu_defaults({"seed": 3}) == {}
    monkeypatch.setattr(places.torch.cuda, "is_available", lambda: False)
    assert gpu_defaults({}) == {}
    monkeypatch.undo()
    assert gpu_defaults({}) == {}


@pytest.fixture
def finished(tmp_path):
    small = {"benchmark.num_tasks": 1, "benchmark.epochs": 1, "net.hidden": [4], "run.diagnostics": False}
    small |= {"run.results_dir": str(tmp_path / "results"), "run.device": "cpu", "run.threads": 1}
    return run(make_config(benchmark="permuted_digits", optimizer="sgd", overrides=small), summaries=False)


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """What `google.colab` is asked for."""
    asked = []
    module = ModuleType("google.colab")
    module.drive = SimpleNamespace(mount=lambda folder: asked.append(folder))
    module.files = SimpleNamespace(download=lambda path: asked.append(path))
    google = ModuleType("google")
    google.colab = module
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.chdir(tmp_path)
    return asked


def test_results_go_to_the_drive_on_request(colab):
    (config,) = configs_of(keep="drive", seed=0, baseline=False)
    assert colab == ["/content/drive"]
    assert config.run.results_dir == "/content/drive/MyDrive/lop-results"
    (config,) = configs_of(keep="drive", results_dir="/content/drive/mine", seed=0, baseline=False)
    assert config.run.results_dir == "/content/drive/mine"


def test_a_download_has_the_tables_and_no_checkpoints(colab, finished):
    hand_out([finished], None)
    assert colab == []
    hand_out([finished], "download")
    names = zipfile.ZipFile(colab[0]).namelist()
    assert f"results/{finished.folder.name}/tasks.csv" in names
    assert f"results/{finished.folder.name}/config.json" in names
    assert not [name for name in names if name.endswith(".pt")]


def test_elsewhere_it_is_one_line(monkeypatch, finished, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google", None)
    with pytest.raises(UserError, match="is for Colab"):
        hand_out([finished], "download")
    with pytest.raises(UserError, match="is for Colab"):
        configs_of(keep="drive", seed=0)
    with pytest.raises(UserError, match=r"\(keep\) 'drvie': did you mean 'drive'"):
        configs_of(keep="drvie", seed=0)
    with pytest.raises(UserError, match=r"\(keep\) \['drive'\]: "):
        configs_of(keep=["drive"], seed=0)
    assert not list(tmp_path.glob("*.zip"))


def test_finished_runs_are_small_enough_to_attach(finished, capsys):
    assert (finished.folder / "checkpoint.pt").exists()
    thin([finished])
    assert not list(finished.folder.glob("*.pt"))
    assert "can be attached" in capsys.readouterr().out
    tables = {path.name for path in finished.folder.glob("*.csv")}
    assert "tasks.csv" in tables
    assert run(make_config(finished.folder / "config.json"), summaries=False).status == "finished"  # not trained again
    thin([finished])
    assert capsys.readouterr().out == ""
