"""A method of one's own, in one file: gradient descent with a heavy ball (Polyak, 1964)."""

from typing import ClassVar

import torch

import lop
from lop.utils.state import Fade, PerEntry, State


@lop.optimizer("plugged_ball")
class HeavyBall(lop.ClosureOptimizer):
    param_state: ClassVar[State] = {"velocity": PerEntry(fade=Fade.SCALES)}
    stackable = True

    def __init__(self, model_or_params, *, lr: float = 0.02, momentum: float = 0.5, **shared):
        super().__init__(model_or_params, {"lr": lr, "momentum": momentum}, **shared)

    def _apply(self, params, grads):
        for p, g in zip(params, self._clipped(params, grads), strict=True):
            state, group = self.state[p], self._group_of(p)
            if "velocity" not in state:
                state["velocity"] = torch.zeros_like(p)
            state["velocity"].mul_(group["momentum"]).add_(g)
            p.sub_(state["velocity"], alpha=group["lr"])
