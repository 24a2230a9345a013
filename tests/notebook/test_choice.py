"""From a parameters cell, papermill or the form to the runs that are trained, and back to the command."""

import ast
import shlex
from pathlib import Path

import jupytext
import pytest
from papermill.cli import _resolve_type

from lop.notebook import asking as module
from lop.notebook.asking import ask
from lop.notebook.choice import DEFAULTS, Choice, NotYetError, configs_of
from lop.notebook.form import form
from lop.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def seeds(**parameters) -> list[tuple[str, int]]:
    return [(config.label, config.run.seed) for config in configs_of(**parameters)]


def test_the_defaults_are_those_of_the_parameters_cell():
    (cell,) = [c for c in jupytext.read(ROOT / "run-expr.py").cells if "parameters" in c.metadata.get("tags", [])]
    given = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(cell.source).body}
    assert given.pop("repository") is None  # needed before there is a form
    assert given == DEFAULTS


def test_several_seeds_of_both_methods_are_the_default():
    assert seeds() == [("sassha", seed) for seed in range(5)] + [("sgd", seed) for seed in range(5)]
    assert seeds(benchmark="permuted_mnist", baseline=False) == [("sassha", 0)]  # hours on its own


@pytest.mark.parametrize(("given", "expected"), [("0-2", [0, 1, 2]), ([4, 1], [4, 1]), ("7", [7]), (3, [3])])
def test_seeds_as_people_write_them(given, expected):
    assert seeds(seeds=given, baseline=False) == [("sassha", seed) for seed in expected]


def test_one_seed_is_that_one():
    assert seeds(seed=3) == [("sassha", 3), ("sgd", 3)]
    assert seeds(seed="3", baseline=False) == [("sassha", 3)]


def test_a_config_that_names_seeds_has_them(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("benchmark: permuted_digits\noptimizer: adam\nrun: {seeds: 2-3}\n")
    assert seeds(config=str(path), baseline=False) == [("adam", 2), ("adam", 3)]
    assert seeds(config=str(path), baseline=False, seed=9) == [("adam", 9)]
    path.write_text("benchmark: permuted_digits\noptimizer: adam\nrun: {seed: 5}\n")
    assert seeds(config=str(path), baseline=False) == [("adam", 5)]
    assert seeds(overrides="run.seed=4", baseline=False) == [("sassha", 4)]
    assert seeds(overrides={"run.seeds": "1-2"}, baseline=False) == [("sassha", 1), ("sassha", 2)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": 1, "seeds": "0-3"}, "seeds: give several seeds or one"),
        ({"seeds": "many"}, "seeds: expected numbers and ranges"),
        ({"seeds": [1, 1]}, "seeds: expected every seed once"),
    ],
)
def test_a_mistake_is_one_line(given, words):
    with pytest.raises(UserError) as error:
        configs_of(**given)
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


@pytest.fixture
def live(monkeypatch) -> list:
    """Somebody sits in front of the notebook; what is displayed to them."""
    shown = []
    monkeypatch.setattr(module, "attended", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda *values, **options: shown.extend(values))
    return shown


def test_run_all_shows_the_form_before_anything_is_trained(live):
    names = {**DEFAULTS, "optimizer": "adam", "seed": 1, "other": 1}
    names["chosen"] = ask(names)
    assert len(live) == 1
    with pytest.raises(NotYetError) as told:
        names["chosen"].configs()
    assert told.value._render_traceback_() == [str(told.value)]  # no traceback for what is no mistake
    names["chosen"].parameters["optimizer"] = "sgd"  # in the form
    again = ask(names)
    assert [config.label for config in again.configs()] == ["sgd"]
    names |= {"chosen": again, "optimizer": "kfac"}  # in the cell: then that is meant
    assert [config.label for config in ask(names).configs()] == ["kfac", "sgd"]


def test_nothing_waits_where_nobody_sits():
    names = {"optimizer": "adam", "baseline": False, "seed": 0}
    assert [config.label for config in ask(names).configs()] == ["adam"]


FILLED = {
    "optimizer": "kfac",
    "benchmark": "permuted_digits",
    "seeds": "3",
    "num_tasks": "7",
    "dataset": "digits",
    "lr": "0.02",
    "overrides": "optimizer.damping=0.01, net.hidden=[4, 5]",
    "data_dir": "",
    "results_dir": "my results",
    "time_limit_hours": "1.5",
    "resume": "never",
    "device": "cpu",
    "baseline": False,
}


def fields(box) -> dict:
    return {field.description: field for column in box.children[0].children for field in column.children}


def test_the_form_offers_every_parameter():
    assert list(fields(form(Choice({})))) == list(DEFAULTS)


def test_the_command_trains_what_the_form_says():
    given = {"algos": [{"name": "ema", "decay": 0.5}, "l2"], "seeds": "0-1"}
    choice = Choice(given)
    box = form(choice)
    field = fields(box)
    assert field["algos"].value == ("ema", "l2")
    for name, value in FILLED.items():
        field[name].value = value
    field["algos"].value = ("ema", "sdp")  # what stays chosen keeps its options
    assert choice.parameters["algos"] == [{"name": "ema", "decay": 0.5}, "sdp"]
    chosen = configs_of(**choice.parameters)
    (config,) = chosen
    assert (config.label, config.run.seed, config.run.results_dir) == ("kfac + ema + sdp", 3, "my results")
    assert (config.net.options["hidden"], config.benchmark.options["num_tasks"]) == ([4, 5], 7)
    command = shlex.split(choice.command)
    assert command[:3] == ["papermill", "run-expr.ipynb", "out.ipynb"]
    typed = zip(command[3::3], command[4::3], command[5::3], strict=True)
    read = {name: _resolve_type(text) if flag == "-p" else text for flag, name, text in typed}  # as papermill does
    assert configs_of(**read) == chosen
    assert "papermill run-expr.ipynb" in box.children[1].value


def test_a_mistake_in_the_form_is_said_below_it():
    choice = Choice({})
    box = form(choice)
    fields(box)["overrides"].value = "[1"
    assert "not valid YAML" in box.children[1].value
    fields(box)["overrides"].value = ""
    assert choice.parameters["overrides"] == {}
    assert choice.command == "papermill run-expr.ipynb out.ipynb"
