"""5+1 CIFAR: hard tasks of five classes alternate with easy tasks of one (Kumar et al. 2023)."""

import torch

from lop.data.classes import rows_by_class
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.pixels import normaliser
from lop.data.sources import load_images
from lop.data.stream import TaskStream
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import derive_seed, make_generator


@benchmark(
    "five_plus_one_cifar", family="five-plus-one", configs="cfg", net={"name": "cnn"}, plain="bp_sgd", alike=False
)
class FivePlusOne(TaskStream):
    """Tasks 0, 2, 4, ... are hard, `hard_classes` classes; tasks 1, 3, 5, ... are easy, `easy_classes` classes.

    No class comes twice; labels stay the data set's own and no output is masked. Performance is that of the hard
    tasks. steps_per_task: the epochs of a task are as many as come nearest to it (at least one): with the defaults
    exactly 780, 10 epochs of 2,500 images or 52 of 500. A last incomplete batch is dropped. mean, std: inputs are
    (x / 255 - mean) / std, one number or one per channel; None: in [0, 1].
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "cifar100",
        verify: bool = True,
        num_tasks: int = 30,
        hard_classes: int = 5,
        easy_classes: int = 1,
        steps_per_task: int = 780,
        batch_size: int = 32,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ):
        require(
            COUNT,
            num_tasks=num_tasks,
            hard_classes=hard_classes,
            easy_classes=easy_classes,
            steps_per_task=steps_per_task,
            batch_size=batch_size,
        )
        data = load_images(dataset, data_dir, verify)
        self.seed, self.num_tasks = seed, num_tasks
        self.hard_classes, self.easy_classes = hard_classes, easy_classes
        self.steps_per_task, self.batch_size = steps_per_task, batch_size
        needed = self._first_class(num_tasks)
        if needed > data.num_classes:
            raise UserError(
                f"needs {needed} classes, but {data.name} has {data.num_classes}: lower it", option="num_tasks"
            )
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint = data.fingerprint
        self.data_description = f"{data.name} from {data.source}: {hard_classes} classes and {easy_classes} in turns"
        self.class_order = torch.randperm(data.num_classes, generator=make_generator(seed, "class order")).tolist()
        self._rows = {s: rows_by_class(y, data.num_classes) for s, (_, y) in data.splits.items()}
        for k in range(num_tasks):  # before the first one is trained
            require_batch(batch_size, sum(len(self._rows["train"][label]) for label in self.classes(k)))
        self._data = data.to(device).splits
        self._normalise = normaliser(mean, std, data.image_shape[0], device)

    def _first_class(self, k: int) -> int:
        return (k + 1) // 2 * self.hard_classes + k // 2 * self.easy_classes

    def classes(self, k: int) -> list[int]:
        """The classes of task k."""
        return self.class_order[self._first_class(k) : self._first_class(k + 1)]

    def task(self, k: int) -> ImageTask:
        splits = {}
        for split, (images, labels) in self._data.items():
            rows = torch.cat([self._rows[split][label] for label in self.classes(k)]).to(labels.device)
            splits[split] = images[rows], labels[rows]
        steps = len(splits["train"][1]) // self.batch_size
        return ImageTask(
            index=k,
            active=None,
            epochs=max(1, round(self.steps_per_task / steps)),
            steps_per_epoch=steps,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits=splits,
            prepare=self._normalise,
        )
