"""Random labels: the same images in every task, with new random labels to memorise (Lyle 2023; Kumar et al. 2023)."""

import torch

from lop.data.image_task import ImageTask
from lop.data.options import require_batch, require_positive
from lop.data.pixels import scale
from lop.data.sources import load_images
from lop.data.stream import TaskStream
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
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

    epochs: passes per task; Kumar 2023 has 400 of 75 steps. There is nothing to generalise to, so no test split.
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
    ):
        require_positive(num_tasks=num_tasks, num_examples=num_examples, epochs=epochs, batch_size=batch_size)
        require_batch(batch_size, num_examples)
        data = load_images(dataset, data_dir, verify)
        images = data.splits["train"][0]
        if num_examples > len(images):
            raise UserError(f"num_examples must be <= {len(images)} with {data.name}, got {num_examples}")
        rows = torch.randperm(len(images), generator=make_generator(seed, "examples"))[:num_examples]
        self._images = images[rows].to(device)
        self.seed, self.num_tasks = seed, num_tasks
        self.epochs, self.batch_size = epochs, batch_size
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_description = f"{data.name} from {data.source}: {num_examples} images, random labels"

    def task(self, k: int) -> ImageTask:
        generator = make_generator(self.seed, "labels", k)
        labels = torch.randint(self.num_outputs, (len(self._images),), generator=generator)
        return ImageTask(
            index=k,
            active=None,
            epochs=self.epochs,
            steps_per_epoch=len(labels) // self.batch_size,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits={"train": (self._images, labels.to(self._images.device))},
            prepare=scale,
        )
