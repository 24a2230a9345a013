"""A reset entry equals a fresh one, and a forgotten optimizer a new one: for every listed optimizer."""

import copy
import io
import math

import pytest
import torch
from optimizer_problems import Problem, same
from separable import MASKS, Separable, close, reset, until_refresh

from lop.optimizers import list_optimizers, young

TOGETHER = {
    "kfac": "the factors are of whole layers",
    "shampoo": "the statistics are of whole rows and columns",
    "muon": "the momentum is made orthogonal as a matrix",
    "adafactor": "the averages are of rows and columns, and the step follows the norms of all entries",
    "lbfgs": "the history is of all parameters together, so that it is forgotten whole",
    "upgd": "utilities are scaled by the largest of all parameters",
    "trac": "all entries' paths are scaled by how much they have helped together",
}
"""Optimizers whose entries do not move independently of each other: what holds for them is asserted below."""
SEPARATELY = [name for name in list_optimizers() if name not in TOGETHER]
# without what couples entries (the norm of the perturbation, the average over a kernel), and long enough between
# refreshes that the phase matters
OPTIONS = {
    "sassha": {"rho": 0.0, "lazy_hessian": 3},
    "msassha": {"rho": 0.0, "lazy_hessian": 3},
    "adahessian": {"lazy_hessian": 3},
    "sophiah": {"lazy_hessian": 3},
    "sophiag": {"lazy_hessian": 3},
    "sam": {"rho": 0.0},
    "asam": {"rho": 0.0},
    "sgd": {"lr": 0.01, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1},
}
VARIANTS = [
    ("adam", {"amsgrad": True}),
    ("adam", {"weight_decay": 0.1}),
    ("adam", {"fused": False, "foreach": False}),
    ("adamw", {"weight_decay": 0.1, "amsgrad": True}),
    ("adam", {"betas": (0.5, 0.9)}),
    ("nadam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("nadam", {"weight_decay": 0.1, "momentum_decay": 0.05}),
    ("radam", {"weight_decay": 0.1, "lr": 0.01, "betas": (0.8, 0.9)}),
    ("adamax", {"weight_decay": 0.1}),
    ("adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.3, "weight_decay": 0.1}),
    ("asgd", {"lr": 0.01, "lambd": 0.1, "t0": 4, "weight_decay": 0.1}),
    ("rmsprop", {"centered": True, "momentum": 0.9}),
    ("sgd", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ("sassha", {"rho": 0.0, "lazy_hessian": 4, "weight_decay": 0.1, "hessian_power": 0.7, "eps": 1e-3}),
    ("sassha", {"rho": 0.0, "lazy_hessian": 1, "betas": (0.0, 0.0)}),
    ("adahessian", {"lazy_hessian": 1, "weight_decay": 0.1, "hessian_power": 0.5}),
    ("sophiah", {"lazy_hessian": 5, "weight_decay": 0.1}),
    ("sam", {"rho": 0.0, "base": "adam"}),
]
CASES = [(name, OPTIONS.get(name, {})) for name in SEPARATELY] + VARIANTS


# where curvature is refreshed now and then, also in between
AT = [(name, options, steps) for name, options in CASES for steps in ((7, 9) if "lazy_hessian" in options else (9,))]


@pytest.mark.parametrize(("name", "options", "steps"), AT)
def test_a_reset_entry_equals_a_fresh_one(name, options, steps):
    problem = Separable(name, options)
    problem.run(steps)
    reset(problem)
    before = [p.detach().clone() for p in problem.params]
    waited = problem.run(until_refresh(problem.optimizer))
    for values in waited:
        for v, b, mask in zip(values, before, MASKS, strict=True):
            assert torch.equal(v[mask.expand_as(v)], b[mask.expand_as(v)])
    fresh = problem.as_new()
    untouched = Separable(name, options)
    untouched.run(problem.step)
    for expected, others, found in zip(fresh.run(25), untouched.run(25), problem.run(25), strict=True):
        for e, o, f, mask in zip(expected, others, found, MASKS, strict=True):
            mask = mask.expand_as(f)
            close(name, f[mask], e[mask])
            assert torch.equal(f[~mask], o[~mask])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_entries_reset_one_after_the_other(name, options):
    """Cohorts of several ages, an entry that is reset again, and a round trip through a file in between."""
    problem = Separable(name, options)
    problem.run(5)
    lazy = getattr(problem.optimizer, "lazy_hessian", 1)
    reset(problem, [torch.arange(4).unsqueeze(1) < 2, torch.arange(6) < 3])
    problem.run(4)
    late = [torch.arange(4).unsqueeze(1) == 1, torch.arange(6) == 0]
    reset(problem, late)
    problem.run(-problem.step % lazy)
    fresh = problem.as_new()
    file = io.BytesIO()
    torch.save(problem.optimizer.state_dict(), file)
    file.seek(0)
    resumed = problem.as_new()
    resumed.optimizer.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(problem)
    paths = [run.run(12) for run in (fresh, problem, resumed, copied)]
    for expected, found, again, copy_of in zip(*paths, strict=True):
        assert same(found, again)
        assert same(found, copy_of)
        for e, f, mask in zip(expected, found, late, strict=True):
            close(name, f[mask.expand_as(f)], e[mask.expand_as(f)])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_without_indices_the_entries_move_alike(name, options):
    """Where the number of reset entries would have to be waited for, the ages of all entries are kept."""
    sparse, dense = Separable(name, options), Separable(name, options)
    for problem in (sparse, dense):
        problem.run(5)
        reset(problem)
        problem.run(2)
    for param, mask in zip(dense.params, MASKS, strict=True):
        state = dense.optimizer.state[param]
        names = [key for key in state if key in ("young_index", "young_rows", "young_columns")]
        if names:  # an optimizer whose entries have no age has none
            age = state["young_ages"][0] if "young_ages" in state else state["young_rows"].min()
            for key in names:
                del state[key]
            state["young_ages"] = torch.where(mask.expand_as(param), age, 2**40).flatten()
    for a, b in zip(sparse.run(15), dense.run(15), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    for problem in (sparse, dense):
        reset(problem, [m[: len(m)] for m in MASKS])
    for a, b in zip(sparse.run(15), dense.run(15), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


BY_ROWS = [
    ("adam", {"weight_decay": 0.1, "amsgrad": True}),
    ("nadam", {"momentum_decay": 0.05}),
    ("sassha", OPTIONS["sassha"]),
    ("asgd", {"lr": 0.01, "lambd": 0.1, "t0": 4}),
    ("adagrad", {"lr_decay": 0.1}),
    ("sgd", OPTIONS["sgd"]),
]


@pytest.mark.parametrize("read", ["some rows and columns", "the whole parameter"])
@pytest.mark.parametrize(("name", "options"), BY_ROWS)
def test_rows_and_columns_have_the_ages_of_their_entries(name, options, read, monkeypatch):
    """An entry is as old as the younger of its row and its column; rows that are reset again begin again."""
    monkeypatch.setattr(young, "SMALL", 0 if read.startswith("some") else 1000)
    monkeypatch.setattr(young, "WHOLE", 1.0)
    by_rows, by_entries = Separable(name, options), Separable(name, options)
    rows, columns = (torch.arange(4) == 2).view(4, 1), (torch.arange(6) % 4 == 1).view(1, 6)
    for mask, steps in ((rows, 3), (columns, 2), (rows, 1), (torch.arange(4).view(4, 1) < 1, 12)):
        for problem in (by_rows, by_entries):
            if problem.step == 0:
                problem.run(5)
            entries = problem is by_entries
            problem.optimizer.reset_entries(problem.params[0], mask.expand(4, 6) if entries else mask)
        for a, b in zip(by_rows.run(steps), by_entries.run(steps), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        state = by_rows.optimizer.state[by_rows.params[0]]
        assert "young_ages" not in state
        assert ("young_rows" in state) == by_rows.optimizer.young
        assert ("young_ages" in by_entries.optimizer.state[by_entries.params[0]]) == by_entries.optimizer.young
    for problem in (by_rows, by_entries):  # single entries of such a parameter
        problem.optimizer.reset_entries(problem.params[0], torch.arange(24).view(4, 6) == 7)
    for a, b in zip(by_rows.run(12), by_entries.run(12), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["adam", "nadam", "radam", "adamax", "sassha", "adahessian"])
def test_an_entry_is_old_when_its_correction_no_longer_matters(name):
    """No work is left then, and nothing jumps: the parameter's own correction has come as near to 1."""
    options = OPTIONS.get(name, {}) | {"betas": (0.5, 0.7), "lr": 0.01}
    if name == "nadam":
        options["momentum_decay"] = 2.0
    problem = Separable(name, options)
    problem.run(100)
    reset(problem)
    assert problem.optimizer.young
    fresh = problem.as_new()
    if until_refresh(problem.optimizer):
        problem.run(until_refresh(problem.optimizer))
        fresh = problem.as_new()
    expected, found = fresh.run(150)[-1], problem.run(150)[-1]
    assert not problem.optimizer.young
    assert not any("young" in key for state in problem.optimizer.state.values() for key in state)
    for e, f, mask in zip(expected, found, MASKS, strict=True):
        torch.testing.assert_close(f[mask.expand_as(f)], e[mask.expand_as(f)], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("count", "indices"), [(1, True), (24, False)])
def test_few_entries_are_held_by_index_and_many_by_the_ages_of_all(count, indices):
    problem = Separable("adam", {})
    problem.run(3)
    param = problem.params[0]
    problem.optimizer.reset_entries(param, (torch.arange(24) < count).view(4, 6))
    state = problem.optimizer.state[param]
    assert ("young_index" in state) == indices
    assert len(state["young_ages"]) == (count if indices else 24)


def test_old_entries_are_let_go_when_others_are_reset():
    problem = Separable("adam", {"betas": (0.5, 0.7), "lr": 0.01})
    param = problem.params[0]
    problem.run(3)
    entries = torch.arange(24).view(4, 6)
    problem.optimizer.reset_entries(param, entries == 1)
    problem.run(10)
    problem.optimizer.reset_entries(param, entries == 2)
    assert problem.optimizer.state[param]["young_index"].tolist() == [1, 2]
    problem.run(4)  # 0.7^13 <= 0.01
    problem.optimizer.reset_entries(param, entries == 3)
    assert problem.optimizer.state[param]["young_index"].tolist() == [2, 3]


@pytest.mark.parametrize(("name", "options"), [("adam", {}), ("sassha", OPTIONS["sassha"])])
@pytest.mark.parametrize("masks", [MASKS, [torch.arange(24).view(4, 6) == 3, torch.arange(6) == 1]])
def test_a_parameter_without_gradients_keeps_its_new_entries(name, options, masks):
    """Their age is the number of steps that the parameter has made, not the optimizer."""
    options = options | {"betas": (0.5, 0.7), "lr": 0.01}
    problem = Separable(name, options)
    problem.run(9)
    reset(problem, masks)
    problem.params[1].requires_grad_(False)
    problem.run(60)
    problem.params[1].requires_grad_(True)
    fresh = problem.as_new()
    for expected, found in zip(fresh.run(12), problem.run(12), strict=True):
        close(name, found[1][masks[1]], expected[1][masks[1]])


@pytest.mark.parametrize("name", sorted(TOGETHER))
def test_where_entries_move_together_a_reset_of_all_is_a_new_optimizer_or_close(name):
    """K-FAC's factors restart uncorrelated with their mean power, and Adafactor's averages stay: both only have to
    go on learning. Shampoo's statistics, Muon's momentum and L-BFGS's history are those of a new optimizer."""
    problem = Problem(name, dtype=torch.float64)
    problem.run(50 if name == "shampoo" else 4)  # Shampoo's roots are made anew in every 50th step
    for p in problem.net.parameters():
        problem.optimizer.reset_entries(p, torch.ones((), dtype=torch.bool))
    fresh = Problem(name, net=copy.deepcopy(problem.net), dtype=torch.float64)
    found, expected = problem.run(5), fresh.run(5)
    assert all(map(math.isfinite, found))
    if name in ("shampoo", "muon", "lbfgs"):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-9, atol=1e-9)


def test_every_optimizer_is_either():
    assert set(SEPARATELY) | set(TOGETHER) == set(list_optimizers())


@pytest.mark.parametrize("name", list_optimizers())
def test_a_forgotten_optimizer_is_a_new_one(name):
    lazy = {"lazy_hessian": 4} if name in ("adahessian", "sophiah", "sophiag", "sassha", "msassha") else {}
    schedule = {"rho_schedule": "linear", "rho_end": 0.01, "schedule_steps": 8} if name in ("sassha", "msassha") else {}
    schedule |= {"lr": 0.1, "max_iter": 2} if name == "lbfgs" else {}
    problem = Problem(name, **lazy, **schedule)
    problem.run(6)
    problem.optimizer.reset_entries(problem.net[0].weight, torch.ones((), dtype=torch.bool))
    problem.run(1)
    problem.optimizer.forget()
    fresh = Problem(name, net=copy.deepcopy(problem.net), **lazy, **schedule)
    fresh.optimizer.generator.set_state(problem.optimizer.generator.get_state())
    start = fresh.values()
    assert problem.run(1) == fresh.run(1)
    assert not same(problem.values(), start)  # lazily refreshed curvature is refreshed at once
    assert problem.run(12) == fresh.run(12)
    assert same(problem.values(), fresh.values())
    assert str(problem.optimizer.state_dict()["steps"]) == "13"
