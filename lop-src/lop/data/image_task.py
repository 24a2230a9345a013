"""A classification task over images that are on the device as uint8."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lop.data.augment import Augmentation
from lop.data.stream import Batch, Task
from lop.utils.seeding import make_generator

CHUNK = 4096  # examples prepared at once: a batch is then a view, so batch size 1 costs no indexing
EVALUATION_BATCH = 2000


@dataclass(frozen=True)
class ImageTask(Task):
    """train, test: (images uint8, labels int64) on one device, by split name; prepare: uint8 batch -> float input.

    prepare is the task's own transformation and is the same for every split. seed: of the order of examples.
    shuffle: whether each epoch has its own random order. augment: of training batches; pixels that a rotation
    brings in from outside are 0 after `prepare`. An epoch's parameters are drawn at its start, by position in the
    epoch, so that it can be entered at any batch.
    """

    seed: int
    splits: dict[str, Batch]
    prepare: Callable[[Tensor], Tensor]
    shuffle: bool = True
    augment: Augmentation | None = None

    def _order(self, *purpose: object) -> Tensor:
        labels = self.splits["train"][1]
        generator = make_generator(self.seed, "task", self.index, *purpose)
        return torch.randperm(len(labels), generator=generator).to(labels.device)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        images, labels = self.splits["train"]
        order = self._order("epoch", epoch) if self.shuffle else torch.arange(len(labels), device=labels.device)
        size = self.batch_size
        used = self.steps_per_epoch * size
        if self.augment is not None:
            generator = make_generator(self.seed, "task", self.index, "augment", epoch)
            transforms = self.augment.draw(used, generator).to(labels.device)
        per_chunk = max(1, CHUNK // size) * size
        for begin in range(start * size, used, per_chunk):
            chunk = slice(begin, min(begin + per_chunk, used))
            rows = order[chunk]
            x, y = images[rows], labels[rows]
            if self.augment is None:
                x = self.prepare(x)
            else:
                x, inside = self.augment.apply(x, transforms[chunk])
                x = self.prepare(x).mul_(inside)
            yield from zip(x.split(size), y.split(size), strict=True)

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
