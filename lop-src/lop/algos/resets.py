"""Start the head or the whole network again at each task boundary."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.nets.init import initialise_
from lop.utils.state import Generator, State


class _BoundaryReset(Intervention):
    state: ClassVar[State] = {"_generator": Generator()}

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator(type(self).__name__)


@intervention("head_reset")
class HeadReset(_BoundaryReset):
    """The output layers are drawn afresh, or set to zero, at each task's end, and the optimizer's entries for it reset.

    zero: weights and biases become 0 (Continual ImageNet of Dohare et al. 2024).
    """

    def __init__(self, *, zero: bool = False):
        self.zero = zero

    @torch.no_grad()
    def end_task(self, task) -> None:
        for head in self.host.net.output_layers():
            initialise_(head, self._generator)
            for p in head.parameters():
                if self.zero:
                    p.zero_()
                self.host.optimizer.reset_entries(p, _everything(p))


@intervention("network_reset")
class NetworkReset(_BoundaryReset):
    """Net, optimizer and interventions start again at each task's end: the retrained-network baseline.

    What an intervention has gathered (an anchor, an average, ages) is of another net.
    """

    def end_task(self, task) -> None:
        self.host.restart(self._generator)


def _everything(p: Tensor) -> Tensor:
    return torch.ones((), dtype=torch.bool, device=p.device)
