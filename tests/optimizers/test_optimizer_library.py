"""`pytorch_optimizer:<Class>`, with a module of that name in place of the library."""

import copy
import sys
import types

import pytest
import torch
from optimizer_problems import Problem, small_net
from torch import nn
from torch.optim import Optimizer

from lop.optimizers import get_optimizer, optimizer_options
from lop.utils.errors import UserError


class Lion(Optimizer):
    """Chen et al. (2023); three betas, as some of the library's classes have."""

    def __init__(self, params, lr: float = 1e-2, betas=(0.9, 0.99, 0.5)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.sub_(group["lr"] * m.lerp(p.grad, 1 - group["betas"][0]).sign())
                m.lerp_(p.grad, 1 - group["betas"][1])


class NeedsTheNet(Optimizer):
    def __init__(self, model, lr: float = 1e-2):
        super().__init__(model.parameters(), {"lr": lr})


class NeedsGraph(Lion):
    def step(self, closure=None):
        torch.autograd.grad(self.param_groups[0]["params"][0].grad.sum(), self.param_groups[0]["params"])


@pytest.fixture(autouse=True)
def library(monkeypatch):
    module = types.ModuleType("pytorch_optimizer")
    for cls in (Lion, NeedsTheNet, NeedsGraph):
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", module)


def test_steps_as_in_the_library():
    problem, twin = Problem("pytorch_optimizer:Lion", betas=[0.8, 0.9, 0.5]), small_net()
    problem.net.load_state_dict(twin.state_dict())
    theirs = Lion(twin.parameters(), betas=[0.8, 0.9, 0.5])
    for _ in range(5):
        problem.run(1)
        theirs.zero_grad()
        nn.functional.cross_entropy(twin(problem.x), problem.y).backward()
        theirs.step()
    for a, b in zip(problem.net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(p.grad is None for p in problem.net.parameters())


def test_saved_state_continues():
    problem = Problem("pytorch_optimizer:Lion")
    problem.run(3)
    resumed = Problem("pytorch_optimizer:Lion")
    resumed.net.load_state_dict(problem.net.state_dict())
    resumed.optimizer.load_state_dict(copy.deepcopy(problem.optimizer.state_dict()))
    assert resumed.run(5) == problem.run(5)


def test_what_cannot_work_is_one_line():
    with pytest.raises(UserError, match=r"^NeedsTheNet: .*parameters"):
        get_optimizer("pytorch_optimizer:NeedsTheNet", small_net())
    problem = Problem("pytorch_optimizer:NeedsGraph")
    with pytest.raises(UserError, match=r"^NeedsGraph cannot make a step from the gradients alone: element 0"):
        problem.run(1)
    with pytest.raises(UserError, match=r"'Lion'"):
        get_optimizer("pytorch_optimizer:Lino", small_net())


def test_an_option_that_no_config_can_hold_keeps_its_default(monkeypatch):
    class Kron(Lion):
        def __init__(self, params, lr: float = 1e-2, precondition_dtype: torch.dtype = torch.float32):
            super().__init__(params, lr)

    monkeypatch.setattr(sys.modules["pytorch_optimizer"], "Kron", Kron, raising=False)
    options = optimizer_options("pytorch_optimizer:Kron")
    assert "lr" in options
    assert "precondition_dtype" not in options
