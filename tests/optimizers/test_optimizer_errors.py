"""One clear line for every mistake."""

import pytest
import torch
from optimizer_problems import Problem, small_net
from torch import nn
from torch.nn.functional import cross_entropy

from lop.optimizers import get_optimizer, list_optimizers, optimizer_options
from lop.utils.errors import UserError

OWN = ["adahessian", "sophiah", "sophiag", "sassha", "msassha", "kfac", "shampoo", "sam", "asam"]


def refused(call, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        *[(name, {"lr": -1.0}, "lr must be >= 0, got -1.0") for name in [*OWN, "sgd", "adam"]],
        *[(name, {"weight_decay": -0.1}, "weight_decay must be >= 0") for name in [*OWN, "adamw"]],
        *[(name, {"max_grad_norm": 0.0}, "max_grad_norm must be > 0") for name in [*OWN, "adam"]],
        *[(name, {"lazy_hessian": 0}, "lazy_hessian must be an integer >= 1") for name in OWN[:5]],
        *[(name, {"n_samples": 0}, "n_samples must be") for name in OWN[:5]],
        *[(name, {"betas": [0.9, 1.0]}, "betas[1] must be >= 0 and < 1, got 1.0") for name in [*OWN[:5], "adam"]],
        *[(name, {"rho": -0.1}, "rho must be >= 0") for name in ("sassha", "msassha", "sam", "asam")],
        ("sassha", {"rho_schedule": "cosine"}, "rho_schedule 'cosine' needs"),
        ("sassha", {"rho_schedule": "step"}, "rho_schedule must be one of constant, linear, cosine"),
        ("sophiah", {"clip_threshold": 0.0}, "clip_threshold must be > 0"),
        ("kfac", {"damping": 0.0}, "damping must be > 0"),
        ("kfac", {"alpha": 1.0}, "alpha must be >= 0 and < 1"),
        ("kfac", {"T_inv": 0}, "T_inv must be an integer >= 1"),
        ("shampoo", {"update_freq": 0}, "update_freq must be an integer >= 1"),
        ("shampoo", {"momentum": 1.0}, "momentum must be >= 0 and < 1"),
        ("sam", {"base": "sassha"}, "base must evaluate the loss once per step"),
        ("adam", {"betas": "high"}, "betas must be two numbers"),
    ],
)
def test_bad_values_start_with_the_option(name, options, start):
    with pytest.raises(UserError) as caught:
        get_optimizer(name, small_net(), **options)
    assert str(caught.value).startswith(start)


def test_bad_names_list_the_near_matches():
    refused(lambda: get_optimizer("sasha", small_net()), "unknown optimizer 'sasha'", "'sassha'")
    refused(lambda: get_optimizer("adam", small_net(), beta=0.9), "beta is not a hyperparameter of adam", "'betas'")
    refused(lambda: get_optimizer("sassha", small_net(), rh=0.9), "rh is not a hyperparameter of sassha", "'rho'")
    refused(lambda: get_optimizer("other_library:Lion", small_net()), "pytorch_optimizer:<Class>")


def test_what_an_optimizer_needs_of_its_parameters():
    refused(lambda: get_optimizer("adam", []), "params must hold at least one parameter")
    refused(lambda: get_optimizer("kfac", small_net().parameters()), "needs the model")
    refused(lambda: get_optimizer("sophiag", list(small_net().parameters())), "needs the model")
    group = {"params": list(small_net().parameters())}
    refused(lambda: get_optimizer("sassha", [group | {"lr": -1.0}]), "lr must be >= 0")
    refused(lambda: get_optimizer("sassha", [group | {"lazy_hessian": 3}]), "lazy_hessian is not an option of a param")


@pytest.mark.parametrize("name", list_optimizers())
def test_closures_that_break_the_protocol(name):
    problem = Problem(name)

    def called_backward():
        loss = problem.loss()
        loss.backward()
        return loss

    step = problem.optimizer.step
    refused(lambda: step(None), "closure must be a function")
    refused(lambda: step(lambda: problem.loss().detach()), "closure returned a loss without a graph")
    refused(lambda: step(lambda: cross_entropy(problem.net(problem.x), problem.y, reduction="none")), "scalar loss")
    refused(lambda: step(lambda: 0.5), "scalar loss, got float")
    problem.optimizer.zero_grad()
    refused(lambda: step(called_backward), "must not call backward()")
    problem.optimizer.zero_grad()
    problem.run(1)


@pytest.mark.parametrize("name", ["adahessian", "sophiah", "sassha", "msassha"])
def test_no_second_derivative(name):
    net = nn.Linear(5, 3)
    optimizer = get_optimizer(name, net)
    x = torch.ones(2, 5)
    refused(lambda: optimizer.step(lambda: net(x).sum()), "no second derivative", "first-order")


@pytest.mark.parametrize("name", ["adahessian", "sophiah", "sassha", "msassha"])
def test_partly_linear_loss_has_zero_curvature_there(name):
    """A bias that enters linearly is stepped with curvature 0; the rest as usual."""
    net = nn.Linear(5, 3)
    extra = nn.Parameter(torch.zeros(3))
    optimizer = get_optimizer(name, [*net.parameters(), extra])
    x = torch.ones(2, 5)
    optimizer.step(lambda: net(x).square().sum() + extra.sum())
    key = "diagonal_sq" if name == "adahessian" else "hessian"
    assert not optimizer.state[extra][key].any()
    assert optimizer.state[net.weight][key].any()


def test_hyperparameters_are_known_by_annotation():
    for name in OWN:
        for option in optimizer_options(name).values():
            assert option.annotation is not option.empty, (name, option.name)
            assert option.default is not option.empty
    assert "momentum" in optimizer_options("sgd")
    assert "max_grad_norm" in optimizer_options("sgd")
