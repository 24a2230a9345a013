"""Adapted torch.optim classes."""

import sys

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lop.optimizers import get_optimizer
from lop.utils.seeding import make_generator


@pytest.mark.parametrize(
    ("given", "fused"),
    [
        ({}, True),
        ({"fused": None, "foreach": None}, True),  # as a config spells torch's defaults out
        ({"foreach": True}, None),
        ({"fused": False}, False),
    ],
)
def test_adam_uses_the_fused_kernel_unless_another_is_chosen(given, fused):
    optimizer = get_optimizer("adam", nn.Linear(3, 2), lr=0.1, **given)
    assert optimizer.base.param_groups[0]["fused"] is fused
    assert isinstance(optimizer.base, torch.optim.Adam)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_fused_kernel_sees_gradients_and_state_in_the_parameters_order(name):
    """autograd.grad may return a gradient, and a change of layout leave a state, in another memory order."""
    generator = make_generator(0, "test")
    start, target, weight = (torch.randn(8, 6, generator=generator) for _ in range(3))

    def trained(fused: bool) -> torch.Tensor:
        p = nn.Parameter(start.clone())
        optimizer = get_optimizer(name, [p], lr=0.05, fused=fused)
        for step in range(6):
            if step == 3:
                p.data = p.data.t().contiguous().t()
            optimizer.step(lambda: ((p.t() - target.t()) ** 4 * weight.t()).sum())
        return p.detach()

    torch.testing.assert_close(trained(True), trained(False))


def trained(name: str) -> tuple[torch.Tensor, dict]:
    """Parameters and state after steps, a saved state, a net that is built anew: whatever calls a torch optimizer."""
    from lop.nets import NETS
    from lop.nets.init import initialise_

    generator, results = make_generator(0, "test"), []
    net = NETS["mlp"]((4,), 3, hidden=[5])
    initialise_(net, generator)
    x = torch.randn(6, 4, generator=generator)
    for _ in range(2):
        optimizer = get_optimizer(name, net, lr=0.01)
        if results:
            optimizer.load_state_dict(results[-1][1])
        for _ in range(3):
            optimizer.step(lambda: net(x).square().sum())
        results.append((net.head.weight.detach().clone(), optimizer.state_dict()))
    return results[-1]


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "sassha"])
def test_no_step_needs_torchs_compiler(name, monkeypatch):
    """To import it takes two seconds, of every process that trains."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it raises
    weights, state = trained(name)
    assert weights.isfinite().all()
    assert state["steps"] == 6


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad"])
def test_a_step_is_torchs_own(name):
    start = torch.randn(5, 3, generator=make_generator(0, "test"))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = get_optimizer(name, [ours], lr=0.1, weight_decay=0.1)
    own: Optimizer = type(optimizer.base)(
        [theirs], lr=0.1, weight_decay=0.1, fused=optimizer.param_groups[0].get("fused")
    )
    for _ in range(4):
        optimizer.step(lambda: (ours**4).sum())
        own.zero_grad()
        (theirs**4).sum().backward()
        own.step()
    assert torch.equal(ours, theirs)
    assert optimizer.defaults.get("differentiable") is False
