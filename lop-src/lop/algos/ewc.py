"""Elastic weight consolidation: a quadratic penalty on the distance from the last task's final weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lop.algos.base import Host, intervention
from lop.algos.distance import Distance, DistancePenalty, HalfSquares
from lop.nets.probing import probing
from lop.utils.ranges import AMOUNT, COUNT, require
from lop.utils.state import NOTHING, PARAMETERS, PerEntry, State

Labels = Tensor | Any
"""What a loss needs beside the outputs, a row per example: a tensor, or a NamedTuple of tensors."""

CHUNK = 2**24  # numbers in the per-example gradients that are held at once


class _Loss(nn.Module):
    """The host's loss as a module: parameters given to it reach the loss beyond the net's outputs, too."""

    def __init__(self, host: Host):
        super().__init__()
        self.net, self.loss_of = host.net, host.loss_of

    def forward(self, x: Tensor, y: Labels) -> Tensor:
        return self.loss_of(self.net(x), y)


def fisher_diagonal(host: Host, x: Tensor, y: Labels) -> dict[str, Tensor]:
    """Diagonal of the empirical Fisher information: mean over examples of the squared gradient of their loss.

    x, y: a batch with what its loss needs. Returns a tensor per trained parameter, by name. The net is in evaluation
    mode.
    """
    module = _Loss(host)
    parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Labels) -> Tensor:
        return torch.func.functional_call(module, parameters, (x.unsqueeze(0), _each(y, lambda t: t.unsqueeze(0))))

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    size = max(1, CHUNK // sum(p.numel() for p in parameters.values()))
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    with probing(host.net, host.optimizer):
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            for name, g in gradients(parameters, x[rows], _each(y, itemgetter(rows))).items():
                total[name] += g.square().sum(0)
    return {name.removeprefix("net."): value / len(x) for name, value in total.items()}


def _each(y: Labels, change: Callable[[Tensor], Tensor]) -> Labels:
    return change(y) if isinstance(y, Tensor) else type(y)(*map(change, y))


@intervention("ewc")
class EWC(DistancePenalty):
    """0.5 * weight * sum f (p - p*)^2, p* the weights at the end of the last task; nothing in the first task.

    fisher: f is the diagonal of the empirical Fisher information on `samples` training examples of that task (in
    reinforcement learning on the last minibatch), else 1.
    Kirkpatrick et al. (2017), "Overcoming catastrophic forgetting in neural networks"; in the form with one anchor
    that Kumar et al. (2023) compare with.
    """

    state: ClassVar[State] = {"_anchor": PerEntry(NOTHING), "_fisher": PerEntry(NOTHING)}
    stacks = True
    varying: ClassVar[tuple[str, ...]] = ("weight",)
    _anchor: dict[str, Tensor]
    _fisher: dict[str, Tensor]

    def __init__(self, *, weight: float = 1.0, fisher: bool = True, samples: int = 512):
        require(AMOUNT, weight=weight)
        require(COUNT, samples=samples)
        self.weight, self.fisher, self.samples = weight, fisher, samples

    def terms(self) -> Sequence[Distance]:
        if not self._anchor:
            return []
        fisher = [self._fisher[name] for name in self.parameters] if self._fisher else None
        anchors = [self._anchor[name] for name in self.parameters]
        return [HalfSquares(list(self.parameters.values()), anchors, self.weight, fisher)]

    def end_task(self, task) -> None:
        if self.fisher:
            self._fisher = fisher_diagonal(self.host, *self.host.labelled_batch(self.samples))
        self._anchor = {name: p.detach().clone() for name, p in self.parameters.items()}


@intervention("l2_init_ewc")
class L2InitEWC(EWC):
    """L2 Init and EWC together: 0.5 * l2_weight * sum (p - p0)^2 + EWC's penalty (Kumar et al. 2023)."""

    state: ClassVar[State] = {**EWC.state, "_initial": PerEntry(PARAMETERS)}
    stacks = True
    varying = ("weight", "l2_weight")
    _initial: dict[str, Tensor]

    def __init__(self, *, l2_weight: float = 1e-3, weight: float = 1.0, fisher: bool = True, samples: int = 512):
        require(AMOUNT, l2_weight=l2_weight)
        super().__init__(weight=weight, fisher=fisher, samples=samples)
        self.l2_weight = l2_weight

    def terms(self) -> Sequence[Distance]:
        initial = [self._initial[name] for name in self.parameters]
        return [HalfSquares(list(self.parameters.values()), initial, self.l2_weight), *super().terms()]
