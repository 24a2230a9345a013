"""DASH: before new data are learned, weights shrink the more the less they point where these want them."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from lop.algos.base import Host, Intervention, intervention
from lop.nets.layer_io import WeightLayer
from lop.nets.probing import probing
from lop.utils.errors import UserError
from lop.utils.ranges import OPEN_SHARE, SHARE, require
from lop.utils.state import State, Value

NEGLIGIBLE = 1e-9  # share of the moving average that the batches before the last ones have together


@intervention("dash")
class DASH(Intervention):
    """At the start of each task but the first, w <- w * clamp(cos(w, m), floor, 1), m a moving average of -gradient.

    m <- (1 - alpha) m + alpha (-g), from 0, over one pass of the new task's training data at the weights as they are;
    g is that of the batch's loss without penalties, in training mode, and nothing but the weights changes. w is each
    row of a Linear, each (out, in) slice of a convolution's kernel, each bias vector; heads included, normalisations
    not. In the cosine lengths below 1e-8 count as 1e-8, as in torch's. floor: the paper's lambda. The optimizer's state
    stays.

    A batch that is followed by n others has a weight of alpha (1 - alpha)^n in m: the pass begins where all earlier
    ones have less than 1e-9 together, which float32 cannot tell from the whole.

    Shin et al. (2024), "DASH: warm-starting neural network training in stationary settings without loss of plasticity":
    alpha and floor 0.3 in their code, 0.05 to 0.3 searched. There the data are all so far with the new ones
    among them, a batch is as large as a chunk, and the oldest come first; in a stream of tasks they are the new task's,
    in its batches. Data that the learner collects itself (reinforcement learning) cannot be seen before: refused.
    Cost: per task up to log(1e-9) / log(1 - alpha) forward and backward passes (59 with alpha 0.3); none per step.
    """

    state: ClassVar[State] = {"_learned": Value(False)}  # whether there was a task before
    _learned: bool

    def __init__(self, *, alpha: float = 0.3, floor: float = 0.3):
        require(OPEN_SHARE, alpha=alpha)
        require(SHARE, floor=floor)
        self.alpha, self.floor = alpha, floor

    def attach(self, host: Host) -> None:
        super().attach(host)
        if not host.data_ahead:
            raise UserError(
                "algos: dash: needs a task's data before it is learned, which reinforcement learning does not have; "
                "remove it from algos"
            )
        self._layers: list[WeightLayer] = [m for m in host.net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]

    def start_task(self, task) -> None:
        if self._learned:
            self.shrink(task)
        self._learned = True

    def shrink(self, task) -> None:
        """Shrink towards what the task's data want."""
        parameters: list[Tensor] = [p for m in self._layers for p in (m.weight, m.bias) if p is not None]
        parameters = [p for p in parameters if p.requires_grad]  # another intervention may have frozen some
        for p, wanted in zip(parameters, self._average(task, parameters), strict=True):
            with torch.no_grad():
                p.mul_(alignment(p, wanted).clamp(self.floor, 1.0))

    def _average(self, task, parameters: list[Tensor]) -> list[Tensor]:
        host, average = self.host, [torch.zeros_like(p) for p in parameters]
        counted = math.ceil(math.log(NEGLIGIBLE) / math.log(1 - self.alpha))
        with probing(host.net, host.optimizer), torch.enable_grad():
            host.net.train()
            for x, y in task.batches(0, max(0, task.steps_per_epoch - counted)):
                gradients = torch.autograd.grad(host.loss_of(host.net(x), y), parameters)
                torch._foreach_mul_(average, 1 - self.alpha)
                torch._foreach_sub_(average, gradients, alpha=self.alpha)
        return average


def alignment(p: Tensor, wanted: Tensor) -> Tensor:
    """Cosines with the wanted direction, broadcastable to p: (1,) of a vector, (out, 1), or (out, in, 1, 1)."""
    if p.dim() == 4:
        return cosine_similarity(p.flatten(2), wanted.flatten(2), dim=2)[..., None, None]
    return cosine_similarity(p, wanted, dim=-1).unsqueeze(-1)
