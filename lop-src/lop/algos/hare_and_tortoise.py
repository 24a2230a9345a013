"""Hare and tortoise: a slow average of the weights, to which the trained ones return now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.utils.ranges import COUNT, DECAY, require, require_choice
from lop.utils.state import State, Whole


@intervention("hare_and_tortoise")
class HareAndTortoise(Intervention):
    """After every step slow = decay slow + (1 - decay) fast, buffers included; every `every` epochs fast = slow.

    The epochs are counted within a task, and its first one counts: after the epochs 1, every + 1, 2 every + 1, ... So
    in a task of one epoch the net returns once, at its end. The optimizer's state stays. evaluate: whose weights the
    diagnostics evaluate, the slow ones' or the fast ones'; online performance is the fast ones'. (The authors log
    both.) Integer buffers are copied. Another intervention that replaces the whole net replaces the slow one, too.

    Lee et al. (2024), "Slow and steady wins the race: Maintaining plasticity with hare and tortoise networks"; decay
    0.999, every 10, as in the authors' code. Cost: one pass over the weights, a copy of them.
    """

    state: ClassVar[State] = {"_slow": Whole({})}
    _slow: dict[str, Tensor]

    def __init__(self, *, decay: float = 0.999, every: int = 10, evaluate: Literal["slow", "fast"] = "slow"):
        require(DECAY, decay=decay)
        require(COUNT, every=every)
        require_choice(("slow", "fast"), evaluate=evaluate)
        self.decay, self.every, self.evaluate = decay, every, evaluate

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._fast = {**dict(host.net.named_parameters()), **dict(host.net.named_buffers())}

    def restart(self) -> None:
        super().restart()
        self._slow = {name: value.detach().clone() for name, value in self._fast.items()}

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        averaged = [name for name, value in self._fast.items() if value.is_floating_point()]
        slow, fast = ([held[name] for name in averaged] for held in (self._slow, self._fast))
        torch._foreach_lerp_(slow, fast, 1 - self.decay)
        for name in self._fast.keys() - averaged:
            self._slow[name].copy_(self._fast[name])

    @torch.no_grad()
    def end_epoch(self, task, epoch: int) -> None:
        if epoch % self.every == 0:
            for name, value in self._fast.items():
                value.copy_(self._slow[name])
            self.host.weights_replaced(by=self)

    @torch.no_grad()
    def on_weights_replaced(self) -> None:
        for name, value in self._slow.items():
            value.copy_(self._fast[name])

    def evaluation_parameters(self) -> dict[str, Tensor] | None:
        return self._slow if self.evaluate == "slow" else None
