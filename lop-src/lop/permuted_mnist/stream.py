"""Permuted images: every task shows the same images through a new permutation of their pixels.

Online Permuted MNIST of Dohare et al. 2024 (and, after Goodfellow 2013, of most work on continual learning).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.pixels import normaliser
from lop.data.sources import load_images
from lop.data.stream import TaskStream
from lop.data.transition import Earlier, make_transition
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import derive_seed, make_generator


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
    seeds="0-5",  # as one computation six are done sooner than five one after the other
)
class PermutedImages(TaskStream):
    """Task k: the training images once, in random order, pixels permuted; train and test through one permutation.

    dataset: a name or a path. verify: compare with the published checksums. examples_per_task: the first so many
    of a random order of the training images; None: all. redraw: a new order, so other images, in every task (Kumar
    2023); False: the same ones. epochs: passes per task. permute_first: False leaves the images of task 0 as they
    are. mean, std: inputs are (x / 255 - mean) / std, one number or one per channel; None: in [0, 1].
    A last incomplete batch is dropped. transition: {kind: inputs or sampling, share}, see `lop.data.transition`; None:
    the pixels change at once.
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "mnist",
        verify: bool = True,
        num_tasks: int = 800,
        examples_per_task: int | None = None,
        redraw: bool = False,
        epochs: int = 1,
        batch_size: int = 32,
        permute_first: bool = True,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        transition: dict[str, Any] | None = None,
    ):
        data = load_images(dataset, data_dir, verify)
        available = len(data.splits["train"][1])
        examples = available if examples_per_task is None else examples_per_task
        require(COUNT, num_tasks=num_tasks, epochs=epochs, batch_size=batch_size)
        if not 1 <= examples <= available:
            raise UserError(f"must be 1..{available} with {data.name}, got {examples}", option="examples_per_task")
        require_batch(batch_size, examples)
        self.seed = seed
        self.num_tasks, self.epochs, self.batch_size = num_tasks, epochs, batch_size
        self.permute_first, self.redraw = permute_first, redraw
        self._transition = make_transition(transition, ("inputs", "sampling"))
        self._examples = examples
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint = data.fingerprint
        self.data_description = f"{data.name} from {data.source}: {examples} training images per task"
        self._normalise = normaliser(mean, std, data.image_shape[0], device)
        self._splits = data.to(device).splits
        if not redraw:
            self._splits = self._splits | {"train": self._drawn("examples")}

    def _drawn(self, *purpose: object) -> tuple[Tensor, Tensor]:
        """The training images and labels of a random order, as many as a task has."""
        images, labels = self._splits["train"]
        if self._examples == len(labels):
            return images, labels
        order = torch.randperm(len(labels), generator=make_generator(self.seed, *purpose))
        rows = order[: self._examples].to(labels.device)
        return images[rows], labels[rows]

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
        splits = self._splits | {"train": self._drawn("examples", k)} if self.redraw else self._splits
        earlier = None
        if self._transition is not None and k > 0:
            earlier = Earlier(self._prepare(k - 1), splits["train"][1], self._transition)
        return ImageTask(
            index=k,
            active=None,
            epochs=self.epochs,
            steps_per_epoch=self._examples // self.batch_size,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits=splits,
            prepare=self._prepare(k),
            earlier=earlier,
        )
