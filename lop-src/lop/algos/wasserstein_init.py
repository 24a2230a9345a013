"""L2 Init between the distributions of the weights and of the initial ones, whichever weight is where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lop.algos.base import intervention
from lop.algos.distance import Distance, HalfSquares
from lop.algos.penalties import InitPenalty
from lop.utils.ranges import require_choice


@intervention("wasserstein_init")
class WassersteinInit(InitPenalty):
    """weight * sum over tensors of mean (sort(p) - sort(p0))^2; reduction "sum": 0.5 * weight * sum, as L2 Init.

    Per tensor, biases and normalisations included: the squared 2-Wasserstein distance between the entries' and the
    initial entries' distribution (times their number for "sum"). Each entry is so pulled to the initial value of its
    own rank. resample: p0 drawn afresh in every step.

    Lewandowski et al. (2023), "Directions of curvature as an explanation for loss of plasticity", which gives the rule
    without its factor (unchecked against its code); "mean" without 1/2 and weight 1e-3 is the code of Chung et al.
    (2024). Cost: a sort of every tensor in every pass, n log n.
    """

    def __init__(self, *, weight: float = 1e-3, reduction: Literal["mean", "sum"] = "mean", resample: bool = False):
        require_choice(("mean", "sum"), reduction=reduction)
        super().__init__(weight=weight, resample=resample)
        self.reduction = reduction

    def distances(self, parameters: list[Tensor], initial: list[Tensor]) -> Sequence[Distance]:
        anchors = [_by_rank(p.detach(), p0) for p, p0 in zip(parameters, initial, strict=True)]
        if self.reduction == "sum":
            return [HalfSquares(parameters, anchors, self.weight)]
        return [
            HalfSquares([p], [anchor], self.weight * 2 / p.numel())
            for p, anchor in zip(parameters, anchors, strict=True)
        ]


def _by_rank(p: Tensor, values: Tensor) -> Tensor:
    """The values, put where p has the entries of the same ranks."""
    order = p.flatten().argsort(stable=True)
    return torch.empty_like(order, dtype=p.dtype).scatter_(0, order, values.flatten().sort().values).view_as(p)
