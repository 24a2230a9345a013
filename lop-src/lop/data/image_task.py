"""A classification task over images that are on the device as uint8."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lop.data.augment import Augmentation
from lop.data.stream import Batch, Task
from lop.data.transition import Earlier
from lop.utils.seeding import make_generator

CHUNK = 4096  # examples prepared at once: a batch is then a view, so batch size 1 costs no indexing
EVALUATION_BATCH = 2000


@dataclass(frozen=True)
class ImageTask(Task):
    """train, test: (images uint8, labels int64) on one device, by split name; prepare: uint8 batch -> float input.

    prepare is the task's own transformation and is the same for every split. seed: of the order of examples: each
    epoch has its own random order, and another after it where an epoch is longer than the split. augment: of training
    batches; pixels that a rotation brings in from outside are 0 after `prepare`. earlier: the task that the first
    batches mix in; not together with augment. What is random in an epoch is drawn at its start, by position in the
    epoch, so that it can be entered at any batch.
    """

    seed: int
    splits: dict[str, Batch]
    prepare: Callable[[Tensor], Tensor]
    augment: Augmentation | None = None
    earlier: Earlier | None = None

    def _order(self, *purpose: object) -> Tensor:
        labels = self.splits["train"][1]
        generator = make_generator(self.seed, "task", self.index, *purpose)
        return torch.randperm(len(labels), generator=generator).to(labels.device)

    def _training_order(self, epoch: int, length: int) -> Tensor:
        order = self._order("epoch", epoch)
        while len(order) < length:
            order = torch.cat((order, self._order("epoch", epoch, "from", len(order))))
        return order

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        images, labels = self.splits["train"]
        size = self.batch_size
        used = self.steps_per_epoch * size
        order = self._training_order(epoch, used)
        if self.augment is not None:
            generator = make_generator(self.seed, "task", self.index, "augment", epoch)
            transforms = self.augment.draw(used, generator).to(labels.device)
        mixing = self._examples_in_transition(epoch)
        chances = self._chances(epoch, used) if mixing > 0 else torch.empty(0)
        per_chunk = max(1, CHUNK // size) * size
        for begin in range(start * size, used, per_chunk):
            chunk = slice(begin, min(begin + per_chunk, used))
            rows = order[chunk]
            x, y = images[rows], labels[rows]
            if self.augment is None:
                raw, x = x, self.prepare(x)
                if self.earlier is not None and begin < mixing:
                    weight = self._weights(epoch, chunk).to(x.device)
                    x, y = self.earlier.mixed(raw, rows, (x, y), weight, chances[chunk])
            else:
                x, inside = self.augment.apply(x, transforms[chunk])
                x = self.prepare(x).mul_(inside)
            yield from zip(x.split(size), y.split(size), strict=True)

    @property
    def _steps_in_transition(self) -> int:
        return 0 if self.earlier is None else self.earlier.transition.steps(self.epochs * self.steps_per_epoch)

    def _examples_in_transition(self, epoch: int) -> int:
        return (self._steps_in_transition - epoch * self.steps_per_epoch) * self.batch_size

    def _chances(self, epoch: int, used: int) -> Tensor:
        generator = make_generator(self.seed, "task", self.index, "transition", epoch)
        return torch.rand(used, generator=generator).to(self.splits["train"][1].device)

    def _weights(self, epoch: int, chunk: slice) -> Tensor:
        """What the task itself weighs in these examples of the epoch, (examples,)."""
        step = epoch * self.steps_per_epoch + torch.arange(chunk.start, chunk.stop) // self.batch_size
        return (step / self._steps_in_transition).clamp_(max=1.0)

    def reference(self, size: int) -> Batch:
        images, labels = self.splits["train"]
        rows = self._order("reference")[:size]
        return self.prepare(images[rows]), labels[rows]

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        if split not in self.splits:
            return
        images, labels = self.splits[split]
        rows = torch.arange(len(labels), device=labels.device)
        if limit is not None and limit < len(labels):
            # a random sample: splits may be sorted by class
            generator = make_generator(self.seed, "task", self.index, "evaluation", split)
            rows = torch.randperm(len(labels), generator=generator)[:limit].to(labels.device)
        for part in rows.split(EVALUATION_BATCH):
            yield self.prepare(images[part]), labels[part]
