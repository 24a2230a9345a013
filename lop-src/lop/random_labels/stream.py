"""Random labels: the same images in every task, with new random labels to memorise (Lyle 2023; Kumar et al. 2023)."""

from typing import Any, Literal

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


@benchmark(
    "random_label_mnist",
    family="labels",
    configs="cfg/mnist",
    net={"name": "mlp", "hidden": [100, 100]},
    plain="bp_sgd",
)
@benchmark(
    "random_label_cifar",
    family="labels",
    configs="cfg/cifar",
    defaults={"dataset": "cifar10"},
    net={"name": "cnn"},
    plain="bp_sgd",
)
class RandomLabels(TaskStream):
    """Task k: `num_examples` images, the same in every task, each with a label drawn anew.

    labels: "random" draws each label by itself; "permuted" hands the images' true labels round in a new random
    order, as Kumar 2023 does, so that every task has the same number of images per class.
    epochs: passes per task; Kumar 2023 has 400 of 75 steps. mean, std: inputs are (x / 255 - mean) / std, one number
    or one per channel; None: in [0, 1]. There is nothing to generalise to, so no test split. transition: {kind: labels
    or sampling, share}, see `lop.data.transition`; None: the labels change at once.
    """

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str = "mnist",
        verify: bool = True,
        num_tasks: int = 50,
        num_examples: int = 1200,
        epochs: int = 400,
        batch_size: int = 16,
        labels: Literal["random", "permuted"] = "random",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        transition: dict[str, Any] | None = None,
    ):
        require(COUNT, num_tasks=num_tasks, num_examples=num_examples, epochs=epochs, batch_size=batch_size)
        require_batch(batch_size, num_examples)
        data = load_images(dataset, data_dir, verify)
        images, true_labels = data.splits["train"]
        if num_examples > len(images):
            raise UserError(f"must be <= {len(images)} with {data.name}, got {num_examples}", option="num_examples")
        rows = torch.randperm(len(images), generator=make_generator(seed, "examples"))[:num_examples]
        self._images, self._true_labels = images[rows].to(device), true_labels[rows]
        self._normalise = normaliser(mean, std, data.image_shape[0], device)
        self._transition = make_transition(transition, ("labels", "sampling"))
        self.labels = labels
        self.seed, self.num_tasks = seed, num_tasks
        self.epochs, self.batch_size = epochs, batch_size
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint = data.fingerprint
        self.data_description = f"{data.name} from {data.source}: {num_examples} images, {labels} labels"

    def _labels(self, k: int) -> Tensor:
        generator = make_generator(self.seed, "labels", k)
        if self.labels == "permuted":
            labels = self._true_labels[torch.randperm(len(self._true_labels), generator=generator)]
        else:
            labels = torch.randint(self.num_outputs, (len(self._images),), generator=generator)
        return labels.to(self._images.device)

    def task(self, k: int) -> ImageTask:
        labels, earlier = self._labels(k), None
        if self._transition is not None and k > 0:
            earlier = Earlier(self._normalise, self._labels(k - 1), self._transition)
        return ImageTask(
            index=k,
            active=None,
            epochs=self.epochs,
            steps_per_epoch=len(labels) // self.batch_size,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits={"train": (self._images, labels)},
            prepare=self._normalise,
            earlier=earlier,
        )
