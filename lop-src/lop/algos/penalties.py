"""Penalties on the distance of the weights from the origin or from their initial values.

They are part of the loss, so that every optimizer sees their gradient and, where it uses one, their curvature; a step
that uses none adds the gradient alone, which is known in closed form. All trained parameters count, biases and
normalisation included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, intervention
from lop.algos.distance import Absolutes, Distance, DistancePenalty, HalfSquares, Huber
from lop.algos.randomness import fresh_net
from lop.utils.ranges import AMOUNT, POSITIVE, require
from lop.utils.state import PARAMETERS, Generator, PerEntry, State


@intervention("l2")
class L2(DistancePenalty):
    """Weight decay in the loss: 0.5 * weight * sum p^2."""

    stacks = True
    varying = ("weight",)

    def __init__(self, *, weight: float = 1e-4):
        require(AMOUNT, weight=weight)
        self.weight = weight

    def terms(self) -> Sequence[Distance]:
        return [HalfSquares(list(self.parameters.values()), None, self.weight)]


class InitPenalty(DistancePenalty):
    """Base of the penalties on the distance from the initial parameters p0.

    resample: p0 is drawn afresh from the initial distribution in every step.
    Kumar et al. (2023), "Maintaining plasticity in continual learning via regenerative regularization".
    """

    state: ClassVar[State] = {"_initial": PerEntry(PARAMETERS), "_generator": Generator()}
    stacks = True
    varying: ClassVar[tuple[str, ...]] = ("weight",)
    _initial: dict[str, Tensor]

    def __init__(self, *, weight: float = 1e-3, resample: bool = False):
        require(AMOUNT, weight=weight)
        self.weight, self.resample = weight, resample

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator(type(self).__name__)

    def terms(self) -> Sequence[Distance]:
        return self.distances(list(self.parameters.values()), list(self._initial.values()))

    def distances(self, parameters: list[Tensor], initial: list[Tensor]) -> Sequence[Distance]:
        """Of the parameters, given in the order of their initial values."""
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        if self.resample:
            for own in self.each():
                own._draw_anew()

    def _draw_anew(self) -> None:
        fresh = {id(p): value for p, value in fresh_net(self.host.net, self._generator)}
        for name, p in self.parameters.items():
            if id(p) in fresh:  # what another intervention has taken out of training keeps its p0
                self._initial[name].copy_(fresh[id(p)])


@intervention("l2_init")
class L2Init(InitPenalty):
    """0.5 * weight * sum (p - p0)^2."""

    stacks = True

    def distances(self, parameters: list[Tensor], initial: list[Tensor]) -> Sequence[Distance]:
        return [HalfSquares(parameters, initial, self.weight)]


@intervention("l1_init")
class L1Init(InitPenalty):
    """weight * sum abs(p - p0)."""

    stacks = True

    def distances(self, parameters: list[Tensor], initial: list[Tensor]) -> Sequence[Distance]:
        return [Absolutes(parameters, initial, self.weight)]


@intervention("huber_init")
class HuberInit(InitPenalty):
    """weight * sum huber(p - p0): quadratic up to `delta`, linear beyond."""

    stacks = True

    def __init__(self, *, weight: float = 1e-3, delta: float = 1.0, resample: bool = False):
        require(POSITIVE, delta=delta)
        super().__init__(weight=weight, resample=resample)
        self.delta = delta

    def distances(self, parameters: list[Tensor], initial: list[Tensor]) -> Sequence[Distance]:
        return [Huber(parameters, initial, self.weight, delta=self.delta)]


@intervention("hybrid_init")
class HybridInit(InitPenalty):
    """0.5 * weight * sum (p - p0)^2 + l1_weight * sum abs(p - p0)."""

    stacks = True
    varying = ("weight", "l1_weight")

    def __init__(self, *, weight: float = 1e-3, l1_weight: float = 1e-4, resample: bool = False):
        require(AMOUNT, l1_weight=l1_weight)
        super().__init__(weight=weight, resample=resample)
        self.l1_weight = l1_weight

    def distances(self, parameters: list[Tensor], initial: list[Tensor]) -> Sequence[Distance]:
        squares = HalfSquares(parameters, initial, self.weight)
        return [squares, Absolutes(parameters, initial, self.l1_weight)]
