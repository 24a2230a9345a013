"""Warm start and growing data: more and more of one data set, measured by the test accuracy that is reached."""

from __future__ import annotations

from typing import Any

from lop.data.image_stream import ImageStream
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.training.benchmark import benchmark
from lop.utils.ranges import COUNT, SHARE, require
from lop.utils.seeding import make_generator


@benchmark(
    "warm_start",
    family="growing_data",
    configs="cfg/digits",
    defaults={"num_tasks": 2, "first_share": 0.1, "first_epochs": 200},
    net={"name": "mlp", "hidden": [100, 100, 100]},
)
@benchmark("growing", family="growing_data", configs="cfg/digits", net={"name": "mlp", "hidden": [100, 100, 100]})
class GrowingData(ImageStream):
    """Task k: `epochs` passes over the first share of a random order of the training images; the last has all of them.

    The shares grow by equal steps from `first_share` (None: 1 / num_tasks) to 1; what was there stays. `growing` has
    ten, `warm_start` two, a tenth and then everything. first_epochs: passes over the first share; None: as over the
    others. The test images are always the same. The net trained from scratch on the images of each task, which it is
    compared with, is what the intervention `network_reset` makes of the same run.
    Other options: `ImageStream`. Ash & Adams (2020), "On warm-starting neural network training"; ten chunks of
    100 epochs as in FIRE (2026).
    """

    def __init__(
        self,
        *place: Any,
        dataset: str = "digits",
        num_tasks: int = 10,
        first_share: float | None = None,
        examples: int | None = None,
        epochs: int = 20,
        first_epochs: int | None = None,
        batch_size: int = 16,
        **images: Any,
    ):
        super().__init__(*place, dataset=dataset, num_tasks=num_tasks, batch_size=batch_size, **images)
        require(COUNT, epochs=epochs, first_epochs=first_epochs)
        require(SHARE, first_share=first_share)
        self.epochs, self.first_epochs = epochs, first_epochs or epochs
        self.first_share = 1 / num_tasks if first_share is None else first_share
        self._total = self._require_examples(examples=examples)
        require_batch(batch_size, self.examples_of(0))
        drawn = self._drawn(self._total, make_generator(self.seed, "examples"))
        self._splits = self._splits | {"train": drawn}
        self.data_description += f": {self.examples_of(0)} to {self._total} training images"

    def examples_of(self, k: int) -> int:
        """The number of training images in task k."""
        grown = k / (self.num_tasks - 1) if self.num_tasks > 1 else 1.0
        return round(self._total * (self.first_share + (1 - self.first_share) * grown))

    def task(self, k: int) -> ImageTask:
        number = self.examples_of(k)
        images, labels = self._splits["train"]
        splits = self._splits | {"train": (images[:number], labels[:number])}
        return self._task(k, splits, epochs=self.first_epochs if k == 0 else self.epochs)
