"""Parameters that papermill gives to a notebook which does not have them."""

from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from lop.notebook import check_parameters, plan
from lop.utils.errors import UserError

ROOT = Path(__file__).parents[2]
OWN = "optimizer = None  # which\nseed: int = 0"


def test_names_the_notebook_does_not_have():
    check_parameters(["", OWN, "# Parameters\noptimizer = 'adam'\nseed = 3\n", "later = 1"])
    check_parameters(["", OWN, "other = 1"])
    check_parameters()  # no notebook
    with pytest.raises(UserError, match=r"^optimiser: the notebook has no such parameter; did you mean 'optimizer'"):
        check_parameters(["", OWN, "# Parameters\noptimiser = 'adam'\n", "optimiser = 2"])
    with pytest.raises(UserError, match=r"^later: "):
        check_parameters([OWN, "# Parameters\nlater = 1", "later = 2"])


def test_papermill_stops_at_once(tmp_path):
    with pytest.raises(PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(ROOT / "run-expr.ipynb"),
            str(tmp_path / "out.ipynb"),
            {"optimiser": "adam", "results_dir": str(tmp_path)},
            kernel_name="python3",
            progress_bar=False,
        )
    assert error.value.ename == "UserError"
    assert "did you mean 'optimizer'?" in error.value.evalue


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"algos": "[1"}, "algos, line 1: not valid YAML"),
        ({"algos": 3}, "algos: expected names"),
        ({"baseline": "maybe"}, "baseline: expected true or false, got 'maybe'"),
        ({"overrides": [1]}, "overrides: expected"),
        ({"overrides": "optimizer.lr"}, "overrides: 'optimizer.lr': expected key.path=value"),
        ({"seed": "1:30"}, "run.seed: expected a number, got '1:30'"),
        ({"benchmark": [1]}, "benchmark.name: "),
        ({"config": 7}, "config 7: not a path"),
        ({"time_limit_hours": -1}, "run.time_limit_hours: "),
        ({"optimizer": ["adam"]}, "optimizer: expected a name, got ['adam']"),
        ({"settings": 1}, "settings: expected a name, got 1"),
    ],
)
def test_values_that_are_none(given, words):
    with pytest.raises(UserError) as error:
        plan(**given)
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


def test_texts_of_the_command_line_are_read():
    (chosen,) = plan(algos="[sdp, {name: ema, decay: 0.9}]", overrides="{optimizer.lr: 1e-3}", baseline=False)
    assert [algo.name for algo in chosen.algos] == ["sdp", "ema"]
    assert chosen.algos[1].options["decay"] == 0.9
    assert chosen.optimizer.options["lr"] == 1e-3
