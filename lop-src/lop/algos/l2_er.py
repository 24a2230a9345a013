"""L2-ER: weight decay, and now and then a step up the effective rank of the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import intervention
from lop.algos.distance import Distance, DistancePenalty, HalfSquares
from lop.nets import FeatureRecorder
from lop.nets.probing import probing
from lop.utils.ranges import AMOUNT, COUNT, STEP_SIZE, require
from lop.utils.state import State, Whole


def effective_rank(features: Tensor) -> Tensor:
    """exp of the entropy of s / sum(s), s the singular values of a matrix (examples, units); differentiable.

    Singular values that are 0 within rounding are left out: they add nothing, and their directions are arbitrary.
    """
    s = torch.linalg.svdvals(features)
    s = s[s > max(features.shape) * torch.finfo(s.dtype).eps * s[0]]
    share = s / s.sum()
    return (-(share * share.log()).sum()).exp()


@intervention("l2_er")
class L2ER(DistancePenalty):
    """0.5 * weight * sum p^2 in the loss; every `er_batch` batches p <- p + er_lr * gradient of the effective rank.

    That is one plain step, past the optimizer and its state, up the mean over hidden layers of the features' effective
    rank, see `effective_rank`, on the examples of the last `er_batch` batches together, at the weights after them. Maps
    of a convolution are averaged over space, as the diagnostics do; the net is in evaluation mode.

    "Spectral collapse drives loss of plasticity in deep continual learning" (2026): er_lr 1e-2 to 1e-4, weight 1e-3,
    100 batches of 1 on MNIST, 5 of 100 on CIFAR, 12 of 100 on ImageNet. In the authors' code the decay is that of
    both steps, an er_lr * weight * p more that is left out here; all singular values count, with 1e-8 inside the log.
    Cost: every `er_batch` steps one pass over their examples, there and back, with an SVD per layer.
    """

    state: ClassVar[State] = {"_examples": Whole([])}  # of the batches since the last step up
    _examples: list[Tensor]

    def __init__(self, *, weight: float = 1e-3, er_lr: float = 1e-3, er_batch: int = 5):
        require(AMOUNT, weight=weight)
        require(STEP_SIZE, er_lr=er_lr)
        require(COUNT, er_batch=er_batch)
        self.weight, self.er_lr, self.er_batch = weight, er_lr, er_batch

    def terms(self) -> Sequence[Distance]:
        return [HalfSquares(list(self.parameters.values()), None, self.weight)]

    def before_step(self, x: Tensor) -> None:
        self._examples.append(x)

    def after_step(self, features: Sequence[Tensor]) -> None:
        if len(self._examples) == self.er_batch:
            self._step_up(torch.cat(self._examples))
            self._examples = []

    def _step_up(self, x: Tensor) -> None:
        parameters = [p for p in self.parameters.values() if p.requires_grad]  # another may have frozen some
        with probing(self.host.net, self.host.optimizer), torch.enable_grad():
            ranks = [effective_rank(f) for f in self._features(x) if f.isfinite().all() and f.any()]  # others have none
            if not ranks:
                return
            gradients = torch.autograd.grad(torch.stack(ranks).mean(), parameters, allow_unused=True)
        with torch.no_grad():
            for p, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    p.add_(gradient, alpha=self.er_lr)

    def _features(self, x: Tensor) -> list[Tensor]:
        """(batch, features) of every hidden layer, with their graph."""
        recorder = FeatureRecorder(self.host.hidden_layers, keep_graph=True)
        with recorder:
            self.host.net(x)
        recorder.close()
        return [f.mean(dim=list(range(2, f.dim()))) if f.dim() > 2 else f for f in recorder.features]
