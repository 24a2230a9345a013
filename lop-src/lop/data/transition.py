"""Gradual change: the first steps of a task mix the task before it into it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lop.data.stream import Batch
from lop.utils.errors import UserError
from lop.utils.options import check_options
from lop.utils.ranges import SHARE, require

Kind = Literal["inputs", "labels", "sampling"]


@dataclass(frozen=True)
class Transition:
    """kind: what changes gradually. share: of a task's steps, from its first on; the rest is the task alone.

    In the i-th of the n steps that this is (from 0) the new task weighs i / n. "inputs": an input is the weighted
    mean of what the two tasks make of the image. "labels": each example has the new task's label with that chance.
    "sampling": each example is whole of the new task with that chance, else of the one before.
    """

    kind: Kind
    share: float

    def steps(self, total: int) -> int:
        """Of a task's `total` steps those that mix."""
        return math.ceil(self.share * total)


def make_transition(given: dict[str, Any] | None, kinds: Sequence[Kind]) -> Transition | None:
    """What a benchmark's option `transition` means: None is abrupt change. kinds: those that make sense for it.

    Raises UserError with the key for anything else.
    """
    if given is None:
        return None

    def options(*, kind: Kind, share: float = 0.5) -> Transition:
        return Transition(kind, share)

    made = options(**check_options("transition", options, given))
    require(SHARE, **{"transition.share": made.share})
    if made.kind not in kinds:
        raise UserError(
            f"must be {' or '.join(kinds)}: nothing else changes between tasks, got {made.kind!r}",
            option="transition.kind",
        )
    return made if made.share else None


@dataclass(frozen=True)
class Earlier:
    """The task before: prepare turns its uint8 images into inputs; labels (N,) are those of the training images."""

    prepare: Callable[[Tensor], Tensor]
    labels: Tensor
    transition: Transition

    def mixed(self, images: Tensor, rows: Tensor, new: Batch, weight: Tensor, chance: Tensor) -> Batch:
        """Examples in transition. images: uint8 of these rows of the training split; new: of the task itself.

        weight, chance: (batch,), of the new task in each example, and random numbers in [0, 1).
        """
        x, y = new
        kind, taken = self.transition.kind, chance < weight
        if kind == "labels":
            return x, torch.where(taken, y, self.labels[rows])
        per_example = (-1, *[1] * (x.dim() - 1))
        before = self.prepare(images)
        if kind == "inputs":
            return torch.lerp(before, x, weight.view(per_example)), y
        return torch.where(taken.view(per_example), x, before), torch.where(taken, y, self.labels[rows])
