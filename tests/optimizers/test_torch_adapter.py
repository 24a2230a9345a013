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


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "rmsprop"])
def test_a_reset_unit_takes_steps_of_the_usual_size(name):
    """In a constant state (gradients of noise) a new entry must move about as fast as the old ones."""
    generator = make_generator(0, "test")
    p = nn.Parameter(torch.zeros(20, 50))
    optimizer = get_optimizer(name, [p], lr=1e-3)

    def moved(steps: int) -> torch.Tensor:
        """Mean length of a step, per row."""
        total = torch.zeros(20)
        for _ in range(steps):
            noise, before = torch.randn(p.shape, generator=generator), p.detach().clone()
            optimizer.step(lambda noise=noise: (p * noise).sum())
            total += (p.detach() - before).abs().mean(1)
        return total / steps

    usual = moved(2000).mean()
    mask = torch.zeros(20, 1, dtype=torch.bool)
    mask[3] = True
    optimizer.reset_entries(p, mask)
    restarted = moved(30)
    assert 0.5 * usual < restarted[3] < 1.5 * usual


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
