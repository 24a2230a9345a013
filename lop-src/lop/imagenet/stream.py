"""Continual ImageNet: every task tells a few classes apart, mostly new ones (Dohare et al. 2024)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lop.data.classes import load_classes
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.pixels import normaliser, resize_images
from lop.data.record import normalisation
from lop.data.stream import TaskStream
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import derive_seed, make_generator


def to_input(normalise: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """uint8 -> normalised; float images are inputs as they are."""
    return normalise(images) if images.dtype == torch.uint8 else images.clone()


@benchmark("imagenet", family="imagenet", configs="cfg", net={"name": "convnet"})
@benchmark(
    "tiny_imagenet",
    family="imagenet",
    configs="cfg/tiny_imagenet",
    defaults={"dataset": "tiny_imagenet", "num_tasks": 100, "classes_per_task": 10, "epochs": 25, "resize": 32},
    net={"name": "convnet"},
)
class ClassSubsets(TaskStream):
    """Task k: the images of the next `classes_per_task` classes of a random order; labels 0..classes_per_task-1.

    When the order is used up a new one is drawn. Class files are read when their task comes. resize: side length to
    resize to, None to leave the images as they are. train_per_class: at most so many, None for all.
    epochs: showings of each image per task. A last incomplete batch is dropped.
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "imagenet32",
        verify: bool = True,
        num_tasks: int = 2000,
        classes_per_task: int = 2,
        epochs: int = 250,
        batch_size: int = 100,
        train_per_class: int | None = None,
        resize: int | None = None,
    ):
        require(
            COUNT,
            num_tasks=num_tasks,
            epochs=epochs,
            batch_size=batch_size,
            train_per_class=train_per_class,
            resize=resize,
        )
        self._classes = load_classes(dataset, data_dir, verify)
        if not 2 <= classes_per_task <= self._classes.num_classes:
            raise UserError(
                f"must be 2..{self._classes.num_classes}, got {classes_per_task}", option="classes_per_task"
            )
        self.seed, self.num_tasks, self.classes_per_task = seed, num_tasks, classes_per_task
        self.epochs, self.batch_size = epochs, batch_size
        self.train_per_class, self.resize = train_per_class, resize
        self._device = torch.device(device)
        channels, *size = self._classes.image_shape
        self._normalise = normaliser(*normalisation(dataset, "imagenet32", channels), channels, device)
        self.input_shape = (channels, *(size if resize is None else (resize, resize)))
        self.num_outputs = classes_per_task
        self.data_fingerprint = self._classes.fingerprint
        self.data_description = f"{self._classes.name} from {self._classes.source}: {classes_per_task} classes per task"

    def classes(self, k: int) -> list[int]:
        """The data set's class ids of task k; entry i has the label i."""
        tasks_per_order = self._classes.num_classes // self.classes_per_task
        turn, place = divmod(k, tasks_per_order)
        order = torch.randperm(self._classes.num_classes, generator=make_generator(self.seed, "class order", turn))
        return order[place * self.classes_per_task : (place + 1) * self.classes_per_task].tolist()

    def _split(self, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        labels = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
        images = torch.cat(parts)
        if self.resize is not None:
            images = resize_images(images, self.resize)
        return images.to(self._device), labels.to(self._device)

    def task(self, k: int) -> ImageTask:
        loaded = [self._classes.load(class_id) for class_id in self.classes(k)]
        splits = {
            "train": self._split([images["train"][: self.train_per_class] for images in loaded]),
            "test": self._split([images["test"] for images in loaded]),
        }
        examples = len(splits["train"][1])
        require_batch(self.batch_size, examples, option="benchmark.batch_size")  # known when it is loaded only
        return ImageTask(
            index=k,
            active=None,
            epochs=self.epochs,
            steps_per_epoch=examples // self.batch_size,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits=splits,
            prepare=partial(to_input, self._normalise),
        )
