"""An intervention of one's own, in one file: no weight leaves the interval [-bound, bound]."""

import torch

import lop

CONTRACT_OPTIONS = {"plugged_bounds": {"bound": 0.05}}


@lop.intervention("plugged_bounds")
class Bounds(lop.Intervention):
    def __init__(self, *, bound: float = 1.0):
        self.bound = bound

    @torch.no_grad()
    def after_step(self, features):
        for p in self.host.net.parameters():
            p.clamp_(-self.bound, self.bound)
