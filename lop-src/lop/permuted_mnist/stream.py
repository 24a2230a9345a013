"""Permuted images: every task shows the same images through a new permutation of their pixels.

Online Permuted MNIST of Dohare et al. 2024 (and, after Goodfellow 2013, of most work on continual learning).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lop.data.image_stream import ImageStream
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.stream import Batch
from lop.data.transition import Earlier, make_transition
from lop.training.benchmark import benchmark
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import make_generator


def permute_pixels(permutation: Tensor | None, normalise: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """uint8 (batch, C, H, W) -> float of the same shape, normalised; output pixel i is input pixel permutation[i]."""
    flat = normalise(images).flatten(1)
    if permutation is not None:
        flat = flat.index_select(1, permutation)  # of floats: ten times faster on the CPU than indexing bytes
    return flat.view(images.shape)


@benchmark(
    "permuted_mnist",
    family="mnist",
    configs="cfg",
    net={"name": "mlp", "hidden": [2000, 2000, 2000]},
    plain="bp_batch_32",
)
@benchmark(
    "permuted_digits",
    family="mnist",
    configs="cfg/digits",
    defaults={"dataset": "digits", "batch_size": 16, "epochs": 5, "num_tasks": 40},
    net={"name": "mlp", "hidden": [100, 100, 100]},
    seeds="0-4",  # so many give an interval
)
class PermutedImages(ImageStream):
    """Task k: the training images once, in random order, pixels permuted; train and test through one permutation.

    examples_per_task: the first so many of a random order of the training images; None: all. redraw: a new order, so
    other images, in every task (Kumar 2023); False: the same ones. epochs: passes per task. permute_first: False leaves
    the images of task 0 as they are. transition: {kind: inputs or sampling, share}, see `lop.data.transition`; None:
    the pixels change at once. Other options: `ImageStream`.
    """

    def __init__(
        self,
        *place: Any,
        dataset: str = "mnist",
        num_tasks: int = 800,
        examples_per_task: int | None = None,
        redraw: bool = False,
        epochs: int = 1,
        batch_size: int = 32,
        permute_first: bool = True,
        transition: dict[str, Any] | None = None,
        **images: Any,
    ):
        super().__init__(*place, dataset=dataset, num_tasks=num_tasks, batch_size=batch_size, **images)
        require(COUNT, epochs=epochs)
        self._examples = self._require_examples(examples_per_task=examples_per_task)
        require_batch(batch_size, self._examples)
        self.epochs, self.permute_first, self.redraw = epochs, permute_first, redraw
        self._transition = make_transition(transition, ("inputs", "sampling"))
        self.data_description += f": {self._examples} training images per task"
        if not redraw:
            self._splits = self._splits | {"train": self._shown("examples")}

    def _shown(self, *purpose: object) -> Batch:
        """The training images and labels of a task: some of a random order, or all as they are."""
        images, labels = self._splits["train"]
        if self._examples == len(labels):
            return images, labels
        return self._drawn(self._examples, make_generator(self.seed, *purpose))

    def permutation(self, k: int) -> Tensor | None:
        """Source pixel of each pixel in task k, int64 (pixels,), or None where the images stay as they are."""
        if k == 0 and not self.permute_first:
            return None
        pixels = self._splits["train"][0][0].numel()
        generator = make_generator(self.seed, "permutation", k)
        return torch.randperm(pixels, generator=generator).to(self._splits["train"][0].device)

    def _prepare(self, k: int) -> Callable[[Tensor], Tensor]:
        return partial(permute_pixels, self.permutation(k), self._normalise)

    def task(self, k: int) -> ImageTask:
        splits = self._splits | {"train": self._shown("examples", k)} if self.redraw else self._splits
        earlier = None
        if self._transition is not None and k > 0:
            earlier = Earlier(self._prepare(k - 1), splits["train"][1], self._transition)
        return self._task(k, splits, epochs=self.epochs, prepare=self._prepare(k), earlier=earlier)
