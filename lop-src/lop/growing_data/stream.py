"""Warm start and growing data: more and more of one data set, measured by the test accuracy that is reached."""

from __future__ import annotations

import torch

from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.pixels import normaliser
from lop.data.sources import load_images
from lop.data.stream import TaskStream
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, SHARE, require
from lop.utils.seeding import derive_seed, make_generator


@benchmark(
    "warm_start",
    family="growing_data",
    configs="cfg/digits",
    defaults={"num_tasks": 2, "first_share": 0.1, "first_epochs": 200},
    net={"name": "mlp", "hidden": [100, 100, 100]},
)
@benchmark("growing", family="growing_data", configs="cfg/digits", net={"name": "mlp", "hidden": [100, 100, 100]})
class GrowingData(TaskStream):
    """Task k: `epochs` passes over the first share of a random order of the training images; the last has all of them.

    The shares grow by equal steps from `first_share` (None: 1 / num_tasks) to 1; what was there stays. `growing` has
    ten, `warm_start` two, a tenth and then everything. first_epochs: passes over the first share; None: as over the
    others. The test images are always the same. The net trained from scratch on the images of each task, which it is
    compared with, is what the intervention `network_reset` makes of the same run.
    mean, std: inputs are (x / 255 - mean) / std, one number or one per channel; None: in [0, 1].
    A last incomplete batch is dropped. Ash & Adams (2020), "On warm-starting neural network training"; ten chunks of
    100 epochs as in FIRE (2026).
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "digits",
        verify: bool = True,
        num_tasks: int = 10,
        first_share: float | None = None,
        examples: int | None = None,
        epochs: int = 20,
        first_epochs: int | None = None,
        batch_size: int = 16,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ):
        require(COUNT, num_tasks=num_tasks, epochs=epochs, first_epochs=first_epochs, batch_size=batch_size)
        require(SHARE, first_share=first_share)
        data = load_images(dataset, data_dir, verify)
        available = len(data.splits["train"][1])
        total = available if examples is None else examples
        if not 1 <= total <= available:
            raise UserError(f"must be 1..{available} with {data.name}, got {examples}", option="examples")
        self.seed, self.num_tasks, self.batch_size = seed, num_tasks, batch_size
        self.epochs, self.first_epochs = epochs, first_epochs or epochs
        self.first_share = 1 / num_tasks if first_share is None else first_share
        self._total = total
        require_batch(batch_size, self.examples_of(0))
        self._normalise = normaliser(mean, std, data.image_shape[0], device)
        splits = data.to(device).splits
        images, labels = splits["train"]
        rows = torch.randperm(available, generator=make_generator(seed, "examples"))[:total].to(labels.device)
        self._splits = splits | {"train": (images[rows], labels[rows])}
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint = data.fingerprint
        self.data_description = f"{data.name} from {data.source}: {self.examples_of(0)} to {total} training images"

    def examples_of(self, k: int) -> int:
        """The number of training images in task k."""
        grown = k / (self.num_tasks - 1) if self.num_tasks > 1 else 1.0
        return round(self._total * (self.first_share + (1 - self.first_share) * grown))

    def task(self, k: int) -> ImageTask:
        number = self.examples_of(k)
        images, labels = self._splits["train"]
        return ImageTask(
            index=k,
            active=None,
            epochs=self.first_epochs if k == 0 else self.epochs,
            steps_per_epoch=number // self.batch_size,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits=self._splits | {"train": (images[:number], labels[:number])},
            prepare=self._normalise,
        )
