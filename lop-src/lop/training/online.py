"""Online performance: recorded on the device at every step, read back once per bin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lop.data.stream import Task

RETURNS = ("online_return", "online_length", "policy_kl")


def scores(row: Mapping[str, Any]) -> dict[str, float] | None:
    """What a task's printed summary begins with, from its row: of a policy its returns.

    None: the loss and accuracies after the task.
    """
    if not all(name in row for name in RETURNS):
        return None
    return {name.removeprefix("online_"): row[name] for name in RETURNS}


class OnlineRecorder:
    """Loss and accuracy of the predictions made before each update, in bins of steps and over the task.

    Nothing is read back to the host before a bin is full. `state_dict` in mid-bin keeps the bin's steps one by
    one, so that a resumed run sums exactly what an uninterrupted one does.
    """

    def __init__(self, classification: bool):
        self.classification = classification
        self._losses: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._kept = torch.empty(0, 3, dtype=torch.float64)  # a resumed bin's steps: loss, correct, examples
        self._task = [0.0, 0, 0, 0]  # loss x steps, correct, examples, steps
        self.performance = ("", math.nan)  # of the last bin: what is shown of it while the run goes on

    def start_task(self, task: Task) -> None:
        """Before a task's first diagnostics; a resume in mid-task does not call it."""

    def record(self, result: Any, y: Any) -> None:
        """One batch: what `learn` returned for it, and its targets."""
        self._losses.append(result.loss)
        self._outputs.append(result.logits)
        self._targets.append(y)

    @property
    def pending(self) -> int:
        """Batches since the last bin."""
        return len(self._kept) + len(self._losses)

    def _steps(self) -> Tensor:
        """One row per pending step, float64 on the CPU: mean loss, correct predictions, examples."""
        if not self._losses:
            return self._kept
        losses = torch.stack(self._losses).double()
        sizes = torch.tensor([len(y) for y in self._targets], dtype=torch.float64)
        correct = torch.zeros(len(losses), dtype=torch.float64, device=losses.device)
        if self.classification:
            hits = (torch.cat(self._outputs).argmax(1) == torch.cat(self._targets)).double()
            step = torch.arange(len(losses)).repeat_interleave(sizes.long()).to(hits.device)
            correct.index_add_(0, step, hits)
        rows = torch.stack((losses.cpu(), correct.cpu(), sizes), 1)
        return torch.cat((self._kept, rows))

    def close_bin(self) -> tuple[dict[str, float], int | None]:
        """(examples, loss and accuracy of the bin; the bin's first batch with a non-finite loss, or None)."""
        rows = self._steps()
        self._clear()
        loss, correct, examples = rows[:, 0].sum().item(), int(rows[:, 1].sum()), int(rows[:, 2].sum())
        for i, value in enumerate((loss, correct, examples, len(rows))):
            self._task[i] += value
        bad = (~rows[:, 0].isfinite()).nonzero()
        summary = self._summary(loss, correct, examples, len(rows))
        name = "accuracy" if self.classification else "loss"
        self.performance = name, summary[name]
        return summary, (int(bad[0]) if len(bad) else None)

    def close_task(self) -> dict[str, float]:
        """The columns of the task's row: over all bins since the last call."""
        loss, correct, examples, steps = self._task
        summary = self._summary(loss, int(correct), int(examples), int(steps))
        self._task = [0.0, 0, 0, 0]
        return {f"online_{name}": summary[name] for name in ("accuracy", "loss")}

    def _summary(self, loss: float, correct: int, examples: int, steps: int) -> dict[str, float]:
        accuracy = correct / examples if self.classification and examples else math.nan
        return {"examples": examples, "loss": loss / steps if steps else math.nan, "accuracy": accuracy}

    def _clear(self) -> None:
        self._losses, self._outputs, self._targets, self._kept = [], [], [], self._kept[:0]

    def state_dict(self) -> dict:
        return {"kept": self._steps(), "task": list(self._task)}

    def load_state_dict(self, state: dict) -> None:
        self._clear()
        self._kept, self._task = state["kept"], list(state["task"])
