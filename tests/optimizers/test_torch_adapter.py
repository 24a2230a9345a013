"""Adapted torch.optim classes."""

import pytest
import torch
from torch import nn

from lop.optimizers import get_optimizer


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
