"""How much each update achieves on the very batch that it was made from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lop.metrics.numerics import precise
from lop.metrics.registry import metric
from lop.nets.statistics import frozen_statistics

LEAST_LOSS = 1e-8


def sample_plasticity(before: Tensor, after: Tensor) -> Tensor:
    """clamp(1 - after / max(before, 1e-8), 0, 1) of a batch's losses before and after the update on it. -> ().

    1: the update has removed the loss; 0: it has not lowered it. NaN where a loss is. Elsayed & Mahmood (2024).
    """
    return (1 - precise(after) / precise(before).clamp(min=LEAST_LOSS)).clamp(0, 1)


@torch.no_grad()
def of_step(learner: Any, x: Tensor, y: Any, loss: Tensor) -> Tensor:
    """After the learner's update on (x, y); loss: the batch's mean before it, without penalties."""
    with frozen_statistics(learner.net.modules()):
        return sample_plasticity(loss, learner.loss_of(learner.net(x), y))


@metric(
    "sample_plasticity",
    "sample plasticity",
    (0, 1),
    True,
    "share of a batch's loss that the update on it removes, mean over the task's steps (Elsayed & Mahmood 2024)",
    after_only=True,
    per_step=of_step,
)
def _sample_plasticity(probe):
    return probe.step_mean("sample_plasticity")
