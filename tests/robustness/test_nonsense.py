"""Values that make no sense are refused, with their path; an update that cannot be made once stops with the reason."""

import json

import micro
import pytest

from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError


@pytest.fixture
def attempt(tmp_path):
    def attempt(benchmark="permuted_digits", optimizer="sgd", algos=(), **values):
        data = micro.micro_data(benchmark, micro.write_data(tmp_path / "data"), tmp_path / "results", optimizer)
        data["algos"] = list(algos)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(data))
        return run(make_config(path, overrides={key.replace("__", "."): value for key, value in values.items()}))

    return attempt


@pytest.mark.parametrize(
    ("optimizer", "option", "value"),
    [
        ("sgd", "lr", 1e308),
        ("adamw", "weight_decay", 1e308),
        ("rmsprop", "alpha", 1.5),
        ("sgd", "dampening", 2),
        ("sgd", "maximize", True),
        ("adam", "maximize", True),
        ("lbfgs", "max_iter", -1),
        ("sassha", "rho_end", -1),
        ("adam", "betas", [0.999, 0.9]),
        ("sophiah", "betas", [0.999, 0.9]),
        ("adam", "betas", [-0.1, 0.9]),
        ("adam", "eps", 1e308),
        ("pytorch_optimizer:Lion", "lr", 1e308),
        ("pytorch_optimizer:Lion", "weight_decay", -1.0),
        ("pytorch_optimizer:Lion", "betas", [0.9, 1.5]),
    ],
)
def test_options_of_optimizers(attempt, optimizer, option, value):
    if ":" in optimizer:
        pytest.importorskip("pytorch_optimizer")
    with pytest.raises(UserError) as error:
        attempt(optimizer=optimizer, **{f"optimizer__{option}": value})
    assert error.value.option.startswith(f"optimizer.{option}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("benchmark__epochs", 2**31),
        ("benchmark__num_tasks", 10**12),
        ("run__threads", 2147483648),
        ("run__time_limit_hours", -1),
        ("run__checkpoint_minutes", -1),
        ("run__data_dir", "/nonexistent"),
        ("net__hidden", [2**40]),
        ("metrics__reference_size", 2**31),
    ],
)
def test_other_options(attempt, path, value):
    given = {path: value}
    with pytest.raises(UserError) as error:
        attempt(**given)
    assert error.value.option.startswith(path.replace("__", "."))


def test_options_of_interventions(attempt):
    with pytest.raises(UserError) as error:
        attempt(algos=["bp", {"name": "l2", "weight": 1e308}])
    assert error.value.option == "algos.1.weight"


def test_a_first_step_that_cannot_be_made_stops_with_the_reason(attempt):
    """Without eps, the steps of weights with gradient 0 (of pixels that are always 0) are 0 / 0."""
    with pytest.raises(UserError) as error:
        attempt(optimizer="adam", optimizer__eps=0.0)
    assert error.value.option == "optimizer"
    assert "eps = 0" in str(error.value)


def test_a_later_divergence_is_data(attempt):
    assert attempt(optimizer__lr=1e6).status == "finished"
