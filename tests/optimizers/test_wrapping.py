"""What an optimizer around another one shares with it, and where the options that several share are read from."""

import copy
import inspect
import json
from pathlib import Path

import pytest
import torch
from optimizer_problems import Problem, fill, same
from torch import nn

from lop.optimizers import find_optimizer, get_optimizer, optimizer_options
from lop.optimizers.evaluation import Evaluation, Pass
from lop.optimizers.kfac import LayerwisePass
from lop.optimizers.wrapping import WrappingOptimizer

BENCHMARKS = Path(inspect.getfile(Evaluation)).parents[1]


@pytest.mark.parametrize("name", ["sam", "asam", "sgd", "adam", "lbfgs"])
def test_a_wrapper_and_its_base_are_one_object(name):
    problem = Problem(name)
    wrapper = problem.optimizer
    assert isinstance(wrapper, WrappingOptimizer)
    problem.run(3)

    def check(optimizer):
        assert optimizer.state is optimizer.base.state
        assert optimizer.param_groups is optimizer.base.param_groups
        assert optimizer.defaults is optimizer.base.defaults

    check(wrapper)
    check(copy.deepcopy(wrapper))
    wrapper.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    check(wrapper)
    wrapper.param_groups[0]["lr"] = 0.125
    assert wrapper.base.param_groups[0]["lr"] == 0.125
    wrapper.forget()
    check(wrapper)
    assert not wrapper.base.state


@pytest.mark.parametrize("name", ["sam", "asam", "adam"])
def test_added_groups_are_the_base_s_once(name):
    net = fill(nn.Linear(5, 3))
    optimizer = get_optimizer(name, [net.weight])
    optimizer.add_param_group({"params": [net.bias], "lr": 0.25})
    assert len(optimizer.param_groups) == len(optimizer.base.param_groups) == 2
    assert optimizer.base.param_groups[1]["lr"] == 0.25


def test_every_kind_of_evaluation_says_what_it_holds():
    plain, layerwise = Problem("sassha"), Problem("kfac")
    with torch.no_grad():
        found = plain.optimizer._evaluate(plain.loss)
        layers = layerwise.optimizer._evaluate(layerwise.loss)
    assert type(found) is Pass
    assert type(layers) is LayerwisePass
    assert not isinstance(layers, Pass)
    assert [entry.layer for entry in layers.layers] == [layerwise.net[0], layerwise.net[2]]
    assert layers.rest == []


def test_sam_around_kfac_is_kfac_s_step_with_the_gradient_at_the_perturbed_point():
    """Without a perturbation it is K-FAC; with one it starts from p, with what K-FAC finds at p + rho g / norm(g)."""
    alone, around = Problem("kfac", lr=0.1), Problem("sam", base="kfac", lr=0.1, rho=0.0, max_grad_norm=1.0)
    assert alone.run(4) == around.run(4)
    assert same(alone.values(), around.values())

    rho = 0.3
    sam, there = Problem("sam", base="kfac", lr=0.1, rho=rho), Problem("kfac", lr=0.1, max_grad_norm=None)
    start = sam.values()
    grads = torch.autograd.grad(there.loss(), list(there.net.parameters()))
    norm = torch.sqrt(sum((g * g).sum() for g in grads))
    with torch.no_grad():
        for p, g in zip(there.net.parameters(), grads, strict=True):
            p += rho * g / norm
    moved = there.values()
    sam.run(1), there.run(1)
    for p, begin, q, perturbed in zip(sam.values(), start, there.values(), moved, strict=True):
        torch.testing.assert_close(p - begin, q - perturbed, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["adahessian", "sophiah", "sophiag", "sassha", "msassha"])
def test_shared_options_reach_the_schema_from_the_class_that_writes_them(name):
    options = optimizer_options(name)
    shared = {"betas", "eps", "weight_decay", "lazy_hessian", "n_samples", "compile", "max_grad_norm", "seed"}
    assert shared <= set(options)
    assert options == {k: p for k, p in inspect.signature(find_optimizer(name)).parameters.items() if k in options}
    optimizer = get_optimizer(name, fill(nn.Linear(5, 3)), eps=0.5, n_samples=3, lazy_hessian=7, max_grad_norm=2.0)
    assert optimizer.param_groups[0]["eps"] == 0.5
    assert (optimizer.n_samples, optimizer.lazy_hessian, optimizer.max_grad_norm) == (3, 7, 2.0)


def test_a_subclass_s_default_stands_before_its_base_s():
    default = {name: optimizer_options(name) for name in ("sassha", "msassha", "sam", "asam", "adahessian", "sophiah")}
    assert (default["sassha"]["rho"].default, default["msassha"]["rho"].default) == (0.2, 0.3)
    assert (default["sam"]["rho"].default, default["asam"]["rho"].default) == (0.05, 0.5)
    assert (default["adahessian"]["lazy_hessian"].default, default["sophiah"]["lazy_hessian"].default) == (1, 10)
    assert set(default["msassha"]) == set(default["sassha"])
    assert set(default["asam"]) - set(default["sam"]) == {"eta"}


def test_kfac_settings_chosen_with_the_square_root_say_so():
    found = {}
    for path in BENCHMARKS.glob("*/cfg/**/*kfac*.json"):
        found[str(path.relative_to(BENCHMARKS))] = json.loads(path.read_text())["optimizer"].get("damping_split")
    assert found.pop("permuted_mnist/cfg/digits/secondorder_kfac.json") is None  # chosen with the default, pi
    assert found
    assert set(found.values()) == {"sqrt"}
    yamls = [path.read_text() for path in BENCHMARKS.glob("rl/cfg/*/kfac*.yml")]
    assert yamls
    assert all("damping_split: sqrt" in text for text in yamls)
