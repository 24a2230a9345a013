"""C-CHAIN: what an update does to the outputs on other data is held small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from lop.algos.base import Host, Intervention, intervention
from lop.nets import PolicyAndValue
from lop.nets.statistics import frozen_statistics
from lop.utils.errors import UserError
from lop.utils.ranges import AMOUNT, COUNT, COUNT_OR_ZERO, POSITIVE, require
from lop.utils.state import Generator, State, Whole


@intervention("c_chain")
class CChain(Intervention):
    """weight * churn: the distance of the outputs from those before the last update, on a batch of its own.

    Churn is the mean squared difference of a Gaussian policy's mean actions (and of a regression's outputs), and
    -sum_a sg[p_prev] log p over the actions of a categorical policy, or the classes of a classification (all outputs,
    masked ones included). The batch is drawn from the rollout, independently of the minibatch; where there is no
    rollout it is the batch before. The weights before the last update are a copy of the net; its first update has no
    penalty.

    target: None: the weight is fixed. Else, in PPO, it is `weight` at each task's start and, after `first` updates,
    max(target * mean abs(policy loss) / mean churn, 1) over the last `window` updates, one value of each an update
    (its last step's). The authors' classic control has target 1e4, first 10, window 50, weight 1; their DMC suite
    target 0.05, 100 and no lower bound.
    Cost: two more forward passes and one backward pass per step, a copy of the weights.
    Tang et al. (2025), "Mitigating plasticity loss in continual reinforcement learning by reducing churn".
    """

    state: ClassVar[State] = {
        "_current": Whole({}),
        "_earlier": Whole({}),
        "_batch": Whole([]),
        "_before": Whole([]),
        "_generator": Generator(),
        "_last": Whole([]),
        "_history": Whole([]),
    }
    _current: dict[str, Tensor]
    _earlier: dict[str, Tensor]  # weights before the last update
    _batch: list[Tensor]
    _before: list[Tensor]  # the batch of the step before
    _last: list[Tensor]  # (2,) of this update's last step, if it has made one: abs(policy loss), churn
    _history: list[Tensor]  # of the updates before

    def __init__(self, *, weight: float = 1.0, target: float | None = None, first: int = 10, window: int = 50):
        require(AMOUNT, weight=weight)
        require(POSITIVE, target=target)
        require(COUNT_OR_ZERO, first=first)
        require(COUNT, window=window)
        self.weight, self.target, self.first, self.window = weight, target, first, window

    def attach(self, host: Host) -> None:
        super().attach(host)
        if self.target is not None and host.data_ahead:
            raise UserError("is for PPO: there is no policy loss to compare with; give a weight", option="target")
        self._generator = host.make_generator("c_chain")
        self._churn: Tensor | None = None

    def start_task(self, task) -> None:
        self._last, self._history = [], []

    @torch.no_grad()
    def before_step(self, x: Tensor) -> None:
        self._churn = None
        self._earlier = self._current
        self._current = {name: p.detach().clone() for name, p in self.host.net.named_parameters()}
        rollout = self.host.rollout()
        if rollout is None:
            self._batch, self._before = self._before, [x]
        else:
            chosen = torch.randperm(len(rollout), generator=self._generator, device=rollout.device)[: len(x)]
            self._batch = [rollout[chosen]]

    def penalty(self) -> Tensor | None:
        if not self._earlier or not self._batch:
            return None
        (x,) = self._batch
        with frozen_statistics(self.host.net.modules()):
            with torch.no_grad():
                before = functional_call(self.host.net, self._earlier, (x,))
            churn = self._distance(self.host.net(x), before)
        self._churn = churn.detach()
        return self.coefficient * churn

    @property
    def coefficient(self) -> float | Tensor:
        """The penalty's weight now: with a target a tensor on the device, so that no step waits for it."""
        if self.target is None or len(self._history) < min(self.first, self.window):
            return self.weight
        loss, churn = torch.stack(self._history).mean(0)
        return (self.target * loss / (churn + 1e-8)).clamp(min=1.0)

    def _distance(self, outputs: Tensor, before: Tensor) -> Tensor:
        categorical = self.host.loss == "cross_entropy"
        if isinstance(self.host.net, PolicyAndValue):
            outputs, before = self.host.net.split(outputs)[0], self.host.net.split(before)[0]
            categorical = self.host.net.actions == "discrete"
        if categorical:
            return F.cross_entropy(outputs, before.softmax(1))
        return F.mse_loss(outputs, before)

    def on_weights_replaced(self) -> None:
        """What changes then is no churn."""
        self._earlier, self._current = {}, {}

    def after_step(self, features: Sequence[Tensor]) -> None:
        loss = self.host.policy_loss()
        if self.target is not None and loss is not None and self._churn is not None:
            self._last = [torch.stack((loss.abs(), self._churn))]

    def end_epoch(self, task, epoch: int) -> None:
        """In PPO after each update."""
        self._history, self._last = [*self._history, *self._last][-self.window :], []
