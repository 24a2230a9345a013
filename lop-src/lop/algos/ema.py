"""Exponential moving average of the weights, used for evaluation (Polyak & Juditsky 1992)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Intervention, intervention
from lop.algos.layout import lerp_
from lop.utils.ranges import DECAY, require
from lop.utils.state import PARAMETERS, PerEntry, State


@intervention("ema")
class EMA(Intervention):
    """Shadow weights w <- decay * w + (1 - decay) * p after every step; they start at p again with each task."""

    state: ClassVar[State] = {"_shadow": PerEntry(PARAMETERS)}
    stacks = True
    varying = ("decay",)
    _shadow: dict[str, Tensor]

    def __init__(self, *, decay: float = 0.999):
        require(DECAY, decay=decay)
        self.decay = decay

    def start_task(self, task) -> None:
        self.on_weights_replaced()

    @torch.no_grad()
    def on_weights_replaced(self) -> None:
        for name, p in self.parameters.items():
            self._shadow[name].copy_(p)

    @torch.no_grad()
    def after_step(self, features) -> None:
        lerp_(list(self._shadow.values()), list(self.parameters.values()), 1 - self.decay)

    def evaluation_parameters(self) -> dict[str, Tensor]:
        return self._shadow
