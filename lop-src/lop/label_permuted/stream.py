"""Label-permuted images: the classes change their names from task to task (Elsayed & Mahmood 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lop.data.image_stream import ImageStream
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.transition import Earlier, make_transition
from lop.training.benchmark import benchmark
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import make_generator


@benchmark(
    "label_permuted",
    family="label_permuted",
    configs="cfg",
    plain="emnist/bp",
    net={"name": "mlp", "hidden": [300, 150], "init": "torch_default"},
)
class LabelPermuted(ImageStream):
    """Task k: `steps_per_task` batches of the same images, whose classes have been renamed by a new permutation.

    The images come in a new random order in every task, and in another one when all have been seen; test images are
    renamed alike. Features stay useful from task to task, the head does not. transition: {kind: labels or sampling,
    share}, see `lop.data.transition`; None: the labels change at once. Other options: `ImageStream`. Published: batches
    of 1, 400 tasks of 2,500 steps, mean and std 0.5, EMNIST's balanced split and CIFAR-10; every seed another MLP
    300-150, LeNet for CIFAR-10.
    """

    def __init__(
        self,
        *place: Any,
        dataset: str = "digits",
        num_tasks: int = 20,
        steps_per_task: int = 2500,
        batch_size: int = 1,
        transition: dict[str, Any] | None = None,
        **images: Any,
    ):
        super().__init__(*place, dataset=dataset, num_tasks=num_tasks, batch_size=batch_size, **images)
        require(COUNT, steps_per_task=steps_per_task)
        require_batch(batch_size, len(self._splits["train"][1]))
        self._transition = make_transition(transition, ("labels", "sampling"))
        self.steps_per_task = steps_per_task
        self.data_description += f": {steps_per_task * batch_size} examples per task, classes renamed"

    def names(self, k: int) -> Tensor:
        """The label in task k of each class, int64 (classes,)."""
        return torch.randperm(self.num_outputs, generator=make_generator(self.seed, "labels", k))

    def _renamed(self, split: str, k: int) -> Tensor:
        labels = self._splits[split][1]
        return self.names(k).to(labels.device)[labels]

    def task(self, k: int) -> ImageTask:
        earlier = None
        if self._transition is not None and k > 0:
            earlier = Earlier(self._normalise, self._renamed("train", k - 1), self._transition)
        splits = {split: (images, self._renamed(split, k)) for split, (images, _) in self._splits.items()}
        return self._task(k, splits, epochs=1, steps_per_epoch=self.steps_per_task, earlier=earlier)
