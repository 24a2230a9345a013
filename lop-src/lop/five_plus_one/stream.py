"""5+1 CIFAR: hard tasks of five classes alternate with easy tasks of one (Kumar et al. 2023)."""

from typing import Any

import torch

from lop.data.classes import rows_by_class
from lop.data.image_stream import ImageStream
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import make_generator


@benchmark(
    "five_plus_one_cifar", family="five-plus-one", configs="cfg", net={"name": "cnn"}, plain="bp_sgd", alike=False
)
class FivePlusOne(ImageStream):
    """Tasks 0, 2, 4, ... are hard, `hard_classes` classes; tasks 1, 3, 5, ... are easy, `easy_classes` classes.

    No class comes twice; labels stay the data set's own and no output is masked. Performance is that of the hard
    tasks. steps_per_task: the epochs of a task are as many as come nearest to it (at least one): with the defaults
    exactly 780, 10 epochs of 2,500 images or 52 of 500. Other options: `ImageStream`.
    """

    def __init__(
        self,
        *place: Any,
        dataset: str = "cifar100",
        num_tasks: int = 30,
        hard_classes: int = 5,
        easy_classes: int = 1,
        steps_per_task: int = 780,
        batch_size: int = 32,
        **images: Any,
    ):
        super().__init__(*place, dataset=dataset, num_tasks=num_tasks, batch_size=batch_size, **images)
        require(COUNT, hard_classes=hard_classes, easy_classes=easy_classes, steps_per_task=steps_per_task)
        self.hard_classes, self.easy_classes = hard_classes, easy_classes
        self.steps_per_task = steps_per_task
        needed = self._first_class(num_tasks)
        if needed > self.num_outputs:
            problem = f"needs {needed} classes, but {self._data_name} has {self.num_outputs}: lower it"
            raise UserError(problem, option="num_tasks")
        self.data_description += f": {hard_classes} classes and {easy_classes} in turns"
        generator = make_generator(self.seed, "class order")
        self.class_order = torch.randperm(self.num_outputs, generator=generator).tolist()
        self._rows = {split: rows_by_class(y, self.num_outputs) for split, (_, y) in self._splits.items()}
        for k in range(num_tasks):  # before the first one is trained
            require_batch(batch_size, sum(len(self._rows["train"][label]) for label in self.classes(k)))

    def _first_class(self, k: int) -> int:
        return (k + 1) // 2 * self.hard_classes + k // 2 * self.easy_classes

    def classes(self, k: int) -> list[int]:
        """The classes of task k."""
        return self.class_order[self._first_class(k) : self._first_class(k + 1)]

    def task(self, k: int) -> ImageTask:
        splits = {}
        for split, (images, labels) in self._splits.items():
            rows = torch.cat([self._rows[split][label] for label in self.classes(k)])
            splits[split] = images[rows], labels[rows]
        steps = len(splits["train"][1]) // self.batch_size
        return self._task(k, splits, epochs=max(1, round(self.steps_per_task / steps)))
