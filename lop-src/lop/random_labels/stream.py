"""Random labels: the same images in every task, with new random labels to memorise (Lyle 2023; Kumar et al. 2023)."""

from typing import Any, Literal

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
class RandomLabels(ImageStream):
    """Task k: `num_examples` images, the same in every task, each with a label drawn anew.

    labels: "random" draws each label by itself; "permuted" hands the images' true labels round in a new random
    order, as Kumar 2023 does, so that every task has the same number of images per class.
    epochs: passes per task; Kumar 2023 has 400 of 75 steps. There is nothing to generalise to, so no test split.
    transition: {kind: labels or sampling, share}, see `lop.data.transition`; None: the labels change at once. Other
    options: `ImageStream`.
    """

    def __init__(
        self,
        *place: Any,
        dataset: str = "mnist",
        num_tasks: int = 50,
        num_examples: int = 1200,
        epochs: int = 400,
        batch_size: int = 16,
        labels: Literal["random", "permuted"] = "random",
        transition: dict[str, Any] | None = None,
        **images: Any,
    ):
        super().__init__(*place, dataset=dataset, num_tasks=num_tasks, batch_size=batch_size, **images)
        require(COUNT, epochs=epochs)
        require_batch(batch_size, self._require_examples(num_examples=num_examples))
        self._splits = {"train": self._drawn(num_examples, make_generator(self.seed, "examples"))}
        self._transition = make_transition(transition, ("labels", "sampling"))
        self.labels, self.epochs = labels, epochs
        self.data_description += f": {num_examples} images, {labels} labels"

    def _labels(self, k: int) -> Tensor:
        generator = make_generator(self.seed, "labels", k)
        _, true = self._splits["train"]
        if self.labels == "permuted":
            return true[torch.randperm(len(true), generator=generator).to(true.device)]
        return torch.randint(self.num_outputs, (len(true),), generator=generator).to(true.device)

    def task(self, k: int) -> ImageTask:
        (images, _), labels, earlier = self._splits["train"], self._labels(k), None
        if self._transition is not None and k > 0:
            earlier = Earlier(self._normalise, self._labels(k - 1), self._transition)
        return self._task(k, {"train": (images, labels)}, epochs=self.epochs, earlier=earlier)
