"""A learner and a task that are as little as the diagnostics need."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass
class SmallLearner:
    """As little as the diagnostics need of a learner."""

    net: torch.nn.Module
    loss: str = "cross_entropy"
    optimizer: torch.optim.Optimizer | None = None

    @torch.no_grad()
    def predict(self, x):
        return self.net(x)

    def loss_of(self, outputs, y):
        return {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}[self.loss](outputs, y)


@dataclass(frozen=True)
class FixedTask:
    """A task over given tensors; the test split is optional."""

    x: torch.Tensor
    y: torch.Tensor
    test: tuple | None = None
    active: torch.Tensor | None = None
    index: int = 0

    def reference(self, size):
        return self.x[:size], self.y[:size]

    def evaluation(self, split, limit=None):
        data = {"train": (self.x, self.y), "test": self.test}.get(split)
        if data is not None:
            end = min(len(data[0]), limit or len(data[0]))
            for begin in range(0, end, 5):
                yield data[0][begin : min(begin + 5, end)], data[1][begin : min(begin + 5, end)]
