"""Methods side by side: the same numbers, in the same order, and one line for what is wrong."""

import sys
from types import ModuleType

import pandas as pd
import pytest

from lop.notebook import beside, run_all
from lop.notebook.beside import at_once, by_label
from lop.notebook.choice import configs_of
from lop.notebook.estimate import _in_turns
from lop.optimizers import OPTIMIZERS
from lop.runs import run_folder_of
from lop.utils.errors import UserError

SMALL = {"benchmark.epochs": 1, "net.hidden": [8], "run.device": "cpu"}


def configs(folder, **parameters):
    parameters = {"num_tasks": 2, "seeds": "0-1", "overrides": SMALL, **parameters}
    return configs_of(results_dir=str(folder), **parameters)


@pytest.fixture
def kernel(monkeypatch):
    """A notebook's, on two cores, whose other processes are threads; how many methods these were given."""
    given = []

    class Threads:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

        def end(self):
            pass

        def call(self, function, argument):
            given.append(argument["names"])
            return function(argument)

    monkeypatch.setattr(beside, "in_notebook", lambda: True)
    monkeypatch.setattr(beside, "cores", lambda: 2)
    monkeypatch.setattr(beside, "PATIENCE", 0.0)
    monkeypatch.setattr(beside, "SECONDS", 100.0)  # nothing is shown here
    monkeypatch.setattr(beside, "Workers", Threads)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    return given


def numbers(results) -> list[pd.DataFrame]:
    return [pd.concat([result.tasks, result.online]).drop(columns=["run"]) for result in results]


def test_the_same_numbers_in_the_same_order_as_one_after_the_other(tmp_path, kernel, monkeypatch):
    together = run_all(configs(tmp_path / "together"), summaries=False)
    assert len(kernel) == 1
    monkeypatch.setattr(beside, "cores", lambda: 1)
    apart = run_all(configs(tmp_path / "apart"), summaries=False)
    assert len(kernel) == 1
    assert [result.folder.name for result in together] == [result.folder.name for result in apart]
    assert [result.status for result in together] == ["finished"] * 4
    for one, other in zip(numbers(together), numbers(apart), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert [result.resumed for result in together] == [False] * 4


def test_a_mistake_of_another_method_is_its_line(tmp_path, kernel):
    chosen = configs(tmp_path)
    folder = run_folder_of(chosen[-1])
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("not a run's")
    with pytest.raises(UserError) as caught:
        run_all(chosen, summaries=False)
    assert str(folder) in str(caught.value)


def test_only_where_it_pays_and_another_process_knows_everything(tmp_path, kernel, monkeypatch):
    methods = by_label(chosen := configs(tmp_path), [config.label for config in chosen])
    assert at_once(methods) == 2
    assert at_once(methods[:1]) == 1
    big = configs(tmp_path, overrides={**SMALL, "run.threads": 2})
    assert at_once(by_label(big, [config.label for config in big])) == 1  # it uses the cores itself
    with monkeypatch.context() as patch:
        patch.setattr(beside, "in_notebook", lambda: False)
        assert at_once(methods) == 1
    with monkeypatch.context() as patch:
        patch.setitem(OPTIMIZERS, "mine", type("Mine", (OPTIMIZERS["sgd"],), {"__module__": "__main__"}))
        assert at_once(methods) == 1
    run_all(chosen[:2], summaries=False)
    assert at_once(methods) == 1  # one of them is done


def test_an_estimate_knows_who_is_free_first():
    assert _in_turns([50.0, 20.0, 10.0, 25.0], 2) == 55.0
    assert _in_turns([50.0, 20.0], 1) == 70.0
