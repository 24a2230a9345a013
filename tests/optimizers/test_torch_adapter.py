"""Adapted torch.optim classes."""

import pytest
import torch
from torch import nn

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
