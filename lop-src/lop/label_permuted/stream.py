"""Label-permuted images: the classes change their names from task to task (Elsayed & Mahmood 2024)."""

from __future__ import annotations

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
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import derive_seed, make_generator


@benchmark(
    "label_permuted",
    family="label_permuted",
    configs="cfg",
    plain="emnist/bp",
    net={"name": "mlp", "hidden": [300, 150], "init": "torch_default"},
)
class LabelPermuted(TaskStream):
    """Task k: `steps_per_task` batches of the same images, whose classes have been renamed by a new permutation.

    The images come in a new random order in every task, and in another one when all have been seen; test images are
    renamed alike. Features stay useful from task to task, the head does not. dataset: a name or a path.
    verify: compare with the published checksums. mean, std: inputs are (x / 255 - mean) / std, one number or one per
    channel; None: in [0, 1]. transition: {kind: labels or sampling, share}, see `lop.data.transition`; None: the
    labels change at once. Published: batches of 1, 400 tasks of 2,500 steps, mean and std 0.5, EMNIST's balanced split
    and CIFAR-10; every seed another MLP 300-150, LeNet for CIFAR-10.
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "digits",
        verify: bool = True,
        num_tasks: int = 20,
        steps_per_task: int = 2500,
        batch_size: int = 1,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        transition: dict[str, Any] | None = None,
    ):
        data = load_images(dataset, data_dir, verify)
        require(COUNT, num_tasks=num_tasks, steps_per_task=steps_per_task, batch_size=batch_size)
        require_batch(batch_size, len(data.splits["train"][1]))
        self._transition = make_transition(transition, ("labels", "sampling"))
        self._normalise = normaliser(mean, std, data.image_shape[0], device)
        self._splits = data.to(device).splits
        self.seed, self.num_tasks = seed, num_tasks
        self.steps_per_task, self.batch_size = steps_per_task, batch_size
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint = data.fingerprint
        self.data_description = (
            f"{data.name} from {data.source}: {steps_per_task * batch_size} examples per task, classes renamed"
        )

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
        return ImageTask(
            index=k,
            active=None,
            epochs=1,
            steps_per_epoch=self.steps_per_task,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits={split: (images, self._renamed(split, k)) for split, (images, _) in self._splits.items()},
            prepare=self._normalise,
            earlier=earlier,
        )
