"""Early stopping: at a task's end, the weights that did best on its validation data."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.utils.errors import UserError
from lop.utils.ranges import require_choice
from lop.utils.state import State, Value, Whole


@intervention("early_stopping")
class EarlyStopping(Intervention):
    """After each epoch the validation split is evaluated; the best weights within the task are loaded at its end.

    That is before the task's last diagnostics: they are of these weights. metric: "accuracy" or "loss"; the first of
    equal scores counts. What was scored is kept: with `ema` the averaged parameters. Parameters and buffers are kept;
    the optimizer's state is left as it is. Dohare et al. (2024), incremental CIFAR-100.
    """

    state: ClassVar[State] = {"_score": Value(None), "_best": Whole({})}
    _score: float | None
    _best: dict[str, Tensor]

    def __init__(self, *, metric: Literal["accuracy", "loss"] = "accuracy"):
        require_choice(("accuracy", "loss"), metric=metric)
        self.metric = metric

    def attach(self, host: Host) -> None:
        super().attach(host)
        if host.loss == "mse" and self.metric == "accuracy":
            raise UserError("must be loss for a regression benchmark, got 'accuracy'", option="metric")

    def start_task(self, task) -> None:
        self.restart()

    def end_epoch(self, task, epoch: int) -> None:
        score = self._validate(task)
        if self._score is None or score > self._score:
            self._score = score
            scored = {**self.host.net.state_dict(), **self.host.evaluation_parameters()}
            self._best = {name: value.detach().clone() for name, value in scored.items()}

    @torch.no_grad()
    def _validate(self, task) -> float:
        """Mean score over the validation split; higher is better. A NaN loss is the worst of all."""
        total, examples = 0.0, 0
        for x, y in task.evaluation("validation"):
            outputs = self.host.predict(x)
            if self.metric == "accuracy":
                total += (outputs.argmax(1) == y).sum().item()
            else:
                total -= self.host.loss_of(outputs, y).item() * len(y)
            examples += len(y)
        if examples == 0:
            raise UserError("algos: early_stopping: this benchmark has no validation split; remove it from algos")
        return total / examples if total == total else float("-inf")

    def hand_in(self, task) -> None:
        if self._best:
            self.host.net.load_state_dict(self._best)
            self.host.weights_replaced(by=self)
