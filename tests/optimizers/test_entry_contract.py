"""What every optimizer owes to interventions: entries that are reset, moments that fade."""

import copy

import pytest
import torch
from optimizer_problems import Problem, same

from lop.optimizers import ClosureOptimizer, list_optimizers
from lop.utils.state import Factor, PerEntry, Value


def entry_state(optimizer: ClosureOptimizer, param: torch.Tensor) -> dict[str, torch.Tensor]:
    """The per-entry state whose reset value is 0: all but Rprop's step sizes, and the start of TRAC's path."""
    state = optimizer.state[param].items()
    return {
        k: v
        for k, v in state
        if torch.is_tensor(v) and v.shape == param.shape and k not in ("step_size", "trac_reference")
    }


@pytest.mark.parametrize("name", list_optimizers())
def test_everything_held_for_a_parameter_is_declared(name):
    """And what is declared as per entry has the parameter's shape, and nothing else but factors' names is nested."""
    problem = Problem(name)
    problem.run(4)
    problem.optimizer.reset_entries(problem.net[0].weight, torch.arange(8).view(8, 1) == 2)
    problem.run(2)
    for param, held in problem.optimizer.state.items():
        declared = problem.optimizer.declared(param)
        assert set(held) <= set(declared)
        for key, value in held.items():
            if isinstance(declared[key], PerEntry) and value is not None:
                assert value.shape == param.shape
            assert isinstance(value, dict) == isinstance(declared[key], Factor)
            if isinstance(declared[key], Value) and torch.is_tensor(value):
                assert value.dim() == 0


@pytest.mark.parametrize("name", list_optimizers())
def test_reset_entries_forgets_exactly_the_masked_ones(name):
    problem = Problem(name)
    problem.run(4)
    weight = problem.net[0].weight
    before = {k: v.clone() for k, v in entry_state(problem.optimizer, weight).items()}
    unit = torch.zeros(8, 1, dtype=torch.bool)
    unit[2] = True
    problem.optimizer.reset_entries(weight, unit)
    after = entry_state(problem.optimizer, weight)
    for key, value in before.items():
        assert not after[key][2].any()
        kept = [0, 1, 3, 4, 5, 6, 7]
        assert torch.equal(after[key][kept], value[kept])
    assert all(not value[2].any() for value in after.values())
    assert all(torch.isfinite(torch.tensor(problem.run(12))))


@pytest.mark.parametrize("name", ["adahessian", "sassha", "msassha"])
@pytest.mark.parametrize("lazy", [1, 5])
def test_reset_entries_do_not_explode(name, lazy):
    """An entry without curvature must not be divided by eps."""
    problem = Problem(name, lazy_hessian=lazy, lr=0.01)
    problem.run(12)
    weight = problem.net[0].weight
    unit = torch.zeros(8, 1, dtype=torch.bool)
    unit[2] = True
    before = weight.detach().clone()
    usual = problem.values()[0]
    problem.run(1)
    usual = (problem.values()[0] - usual).abs().max()
    problem.optimizer.reset_entries(weight, unit)
    problem.run(8)
    moved = (weight - before)[2].abs().max()
    assert 0 < moved < 30 * usual


WITH_MOMENTS = {
    "sgd": {"momentum": 0.9},
    "adam": {},
    "rmsprop": {},
    "sassha": {},
    "sophiah": {},
    "shampoo": {},
    "sam": {},
}


@pytest.mark.parametrize(("name", "options"), WITH_MOMENTS.items())
def test_fade_to_nothing_forgets_the_momentum(name, options):
    """The next step is another one than that of a twin that was left alone."""
    problem = Problem(name, **options)
    problem.run(4)
    twin = copy.deepcopy(problem)
    problem.optimizer.fade(0.0)
    problem.run(1), twin.run(1)
    assert all(not torch.equal(a, b) for a, b in zip(problem.values(), twin.values(), strict=True))


def test_fade_changes_nothing_without_moments():
    problem = Problem("sgd")
    problem.run(4)
    twin = copy.deepcopy(problem)
    problem.optimizer.fade(0.0)
    problem.run(2), twin.run(2)
    assert same(problem.values(), twin.values())


@pytest.mark.parametrize("name", list_optimizers())
def test_fade_halves_moments_and_training_goes_on(name):
    problem = Problem(name)
    problem.run(4)
    moments = [
        (state[key], state[key].clone())
        for state in problem.optimizer.state.values()
        for key in ("exp_avg", "exp_avg_sq", "hessian", "momentum", "momentum_buffer")
        if torch.is_tensor(state.get(key))
    ]
    problem.optimizer.fade(0.5)
    assert all(torch.equal(now, before * 0.5) for now, before in moments)
    assert all(torch.isfinite(torch.tensor(problem.run(4))))
