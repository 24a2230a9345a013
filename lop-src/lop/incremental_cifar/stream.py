"""Class-incremental CIFAR-100: five classes at first, five more with every increment (Dohare et al. 2024)."""

from functools import partial

import torch
from torch import Tensor

from lop.data.augment import Augmentation
from lop.data.classes import rows_by_class
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.pixels import channel_values, scale
from lop.data.record import normalisation
from lop.data.sources import load_images
from lop.data.stream import TaskStream
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import derive_seed, make_generator


@benchmark(
    "incremental_cifar",
    family="cifar",
    configs="cfg",
    net={"name": "resnet18"},
    plain="base_deep_learning_system",
    alike=False,
)
class IncrementalClasses(TaskStream):
    """Task k: all images of the first `classes_per_increment` * (k + 1) classes of a random order.

    Labels stay the data set's own; the outputs of classes not yet seen are masked. Each class gives its first
    images of a random order, `validation_per_class` for validation and up to `train_per_class` for training; the
    test set is that of the classes so far. augment: random flip, crop and rotation of training images.
    num_tasks: None for all classes; epochs: per increment. A last incomplete batch is dropped.
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "cifar100",
        verify: bool = True,
        num_tasks: int | None = None,
        classes_per_increment: int = 5,
        epochs: int = 200,
        batch_size: int = 90,
        train_per_class: int = 450,
        validation_per_class: int = 50,
        augment: bool = True,
    ):
        require(
            COUNT,
            num_tasks=num_tasks,
            classes_per_increment=classes_per_increment,
            epochs=epochs,
            batch_size=batch_size,
            train_per_class=train_per_class,
            validation_per_class=validation_per_class,
        )
        data = load_images(dataset, data_dir, verify)
        increments = data.num_classes // classes_per_increment
        if not increments:
            raise UserError(f"must be <= {data.num_classes} with {data.name}", option="classes_per_increment")
        if num_tasks is not None and num_tasks > increments:
            raise UserError(
                f"must be <= {increments}, all increments of {data.name}, got {num_tasks}", option="num_tasks"
            )
        self.seed, self.num_tasks = seed, increments if num_tasks is None else num_tasks
        self.classes_per_increment = classes_per_increment
        self.epochs, self.batch_size = epochs, batch_size
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint = data.fingerprint
        self.data_description = f"{data.name} from {data.source}: {classes_per_increment} more classes per task"
        self.class_order = torch.randperm(data.num_classes, generator=make_generator(seed, "class order"))
        self._augment = Augmentation() if augment else None
        self._rows = self._split(data.splits, validation_per_class, train_per_class)
        self._data = data.to(device).splits
        mean, std = normalisation(dataset, "cifar100", data.image_shape[0])
        self._prepare = partial(scale, mean=channel_values(mean, device), std=channel_values(std, device))
        require_batch(batch_size, len(self._task_rows("train", 0)))

    def _split(self, splits: dict, validation: int, train: int) -> dict[str, tuple[Tensor, ...]]:
        """Row numbers of each class, by split; train and validation rows are of the training images."""
        train_rows: list[Tensor] = []
        validation_rows: list[Tensor] = []
        generator = make_generator(self.seed, "validation split")
        for label, available in enumerate(rows_by_class(splits["train"][1], self.num_outputs)):
            if len(available) <= validation:
                raise UserError(
                    f"must be < the {len(available)} training images of class {label}, got {validation}",
                    option="validation_per_class",
                )
            shuffled = available[torch.randperm(len(available), generator=generator)]
            validation_rows.append(shuffled[:validation])
            train_rows.append(shuffled[validation : validation + train])
        test_rows = rows_by_class(splits["test"][1], self.num_outputs)
        return {"train": tuple(train_rows), "validation": tuple(validation_rows), "test": test_rows}

    def _classes(self, k: int) -> Tensor:
        return self.class_order[: self.classes_per_increment * (k + 1)].sort().values

    def _task_rows(self, split: str, k: int) -> Tensor:
        return torch.cat([self._rows[split][label] for label in self._classes(k).tolist()])

    def task(self, k: int) -> ImageTask:
        splits = {}
        for split in self._rows:
            images, labels = self._data["test" if split == "test" else "train"]
            rows = self._task_rows(split, k).to(labels.device)
            splits[split] = images[rows], labels[rows]
        return ImageTask(
            index=k,
            active=self._classes(k).to(labels.device),
            epochs=self.epochs,
            steps_per_epoch=len(splits["train"][1]) // self.batch_size,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits=splits,
            prepare=self._prepare,
            augment=self._augment,
        )
