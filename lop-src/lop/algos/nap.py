"""Normalise and project (NaP): weights whose scale a norm cancels keep it, so that the step size stays what it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.sdp import spectral_modules
from lop.utils.ranges import COUNT, require, require_choice
from lop.utils.state import State, Value, Whole

SMALLEST = 1e-30  # a norm below it has no direction to be scaled along


@intervention("nap")
class NaP(Intervention):
    """Every `interval` steps each hidden weight is scaled back to its initial norm: W <- W norm_F(W0) / norm_F(W).

    The other half is the net's: a norm before every nonlinearity (`net.layer_norm: true`; a ResNet has BatchNorm).
    Without one the projection changes what a layer computes, and a warning says so. Hidden weights are those of every
    Linear and Conv2d but the heads, whose scale no norm cancels: they are left alone, as are biases.
    norm_parameters: what happens to a norm's scale g and offset b. "joint": (g, b) together is scaled back to its
    initial norm, which after a ReLU the next norm cancels as well; "free": nothing. The optimizer's state stays.

    Lyle et al. (2024), "Normalization and effective learning rates in reinforcement learning", who project after every
    step or every 1,000, drop the biases that a norm makes redundant (here they stay, and train), and discuss both the
    joint scaling and a decay of g and b towards their initial values. No code of theirs is public (one public library,
    Plasticine, projects the heads as well).
    Cost: two passes over the parameters each time.
    """

    state: ClassVar[State] = {"steps": Value(0), "_norms": Whole()}
    steps: int

    def __init__(self, *, interval: int = 1, norm_parameters: Literal["joint", "free"] = "joint"):
        require(COUNT, interval=interval)
        require_choice(("joint", "free"), norm_parameters=norm_parameters)
        self.interval, self.norm_parameters = interval, norm_parameters

    def attach(self, host: Host) -> None:
        super().attach(host)
        bare = [layer.name for layer in host.hidden_layers if layer.norm is None]
        if bare:
            warnings.warn(
                f"nap: no norm before the nonlinearity of {', '.join(bare)}: set net.layer_norm to true",
                stacklevel=2,
            )
        groups: list[list[Tensor]] = [[module.weight] for module in spectral_modules(host.net)]  # each scaled as one
        if self.norm_parameters == "joint":
            norms = [layer.norm for layer in host.hidden_layers if layer.norm is not None]
            groups += [[*norm.parameters(recurse=False)] for norm in norms]
        self._parameters = [p for group in groups for p in group]
        places = [i for i, group in enumerate(groups) for _ in group]
        self._group_of = torch.tensor(places, dtype=torch.int64, device=host.device)
        self._number = len(groups)

    def restart(self) -> None:
        super().restart()
        self._norms = self._now()

    @torch.no_grad()
    def _now(self) -> Tensor:
        """The norm of each group, (groups,)."""
        if not self._parameters:  # a linear net
            return torch.empty(0, device=self.host.device)
        squares = torch.stack(torch._foreach_norm(self._parameters)).square()
        return squares.new_zeros(self._number).index_add_(0, self._group_of, squares).sqrt()

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        self.steps += 1
        if self.steps % self.interval == 0 and self._parameters:
            factors = self._norms / self._now().clamp_min(SMALLEST)
            torch._foreach_mul_(self._parameters, factors[self._group_of].unbind())
