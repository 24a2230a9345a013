"""Scalars for TensorBoard: the numbers of the tables, also after a resume."""

import sys
from importlib.util import find_spec

import pytest

from lop.plan import make_config
from lop.runner import run
from lop.runs import RunFolder
from lop.runs.scalars import Scalars
from lop.utils.errors import UserError

pytestmark = pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")


def read(folder) -> dict:
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_what_the_tables_have_is_there(tmp_path):
    own = {"benchmark.num_tasks": 2, "benchmark.epochs": 1, "net.hidden": [4], "run.results_dir": str(tmp_path)}
    config = make_config(benchmark="permuted_digits", optimizer="sgd", overrides={**own, "run.tensorboard": True})
    result = run(config, summaries=False)
    found = read(result.folder / "tensorboard")
    for name in ("online_accuracy", "eff_rank_after", "test_acc_after"):
        wanted = list(zip(result.tasks["steps"], result.tasks[name], strict=True))
        assert found[f"tasks/{name}"] == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]
    assert [step for step, _ in found["online/accuracy"]] == list(result.online["step"])
    plain = run(make_config(benchmark="permuted_digits", optimizer="sgd", overrides=own), summaries=False)
    assert plain.folder == result.folder  # how to watch a run is no other experiment


def test_what_is_done_again_hides_what_was_there(tmp_path):
    first, second = Scalars(tmp_path), Scalars(tmp_path)
    for step in (10, 20, 30):
        first.write("online", step, {"loss": float(step), "bad": float("nan"), "name": "x"})
    first.close()
    second.write("online", 20, {"loss": 0.5})  # killed, and begun again from step 10
    second.close()
    assert read(tmp_path / "tensorboard") == {"online/loss": [(10, 10.0), (20, 0.5)]}


def test_a_run_that_begins_anew_moves_them_aside(tmp_path):
    own = {"run.results_dir": str(tmp_path), "run.resume": "never", "benchmark.num_tasks": 1}
    config = make_config(benchmark="permuted_digits", optimizer="sgd", overrides=own)
    for _ in range(2):
        with RunFolder(config) as folder:
            (folder.path / "tensorboard").mkdir()
    assert (folder.path / "old-1" / "tensorboard").is_dir()


def test_without_tensorboard_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"run\.tensorboard: TensorBoard is not installed; pip install"):
        Scalars(tmp_path)
