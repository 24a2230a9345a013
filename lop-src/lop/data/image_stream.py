"""What the streams over one data set of images share: its options, its images on the device, the tasks of them."""

import inspect
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.pixels import normaliser
from lop.data.sources import load_images
from lop.data.stream import Batch, TaskStream
from lop.data.transition import Earlier
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import derive_seed
from lop.utils.signature import full_signature


class ImageStream(TaskStream):
    """Base of benchmarks whose tasks are made of one data set. A subclass hands its options on by `**`.

    seed, data_dir, device: what every stream is called with. dataset: a name or a path. verify: compare with the
    published checksums. mean, std: inputs are (x / 255 - mean) / std, one number or one per channel; None: in [0, 1].
    A last incomplete batch is dropped. What a subclass has a default for it names again (see `full_signature`).
    Raises UserError for data that are not there or damaged, and for values that make no sense.
    """

    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__signature__ = full_signature(cls)

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        dataset: str,
        num_tasks: int,
        batch_size: int,
        verify: bool = True,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ):
        require(COUNT, num_tasks=num_tasks, batch_size=batch_size)
        data = load_images(dataset, data_dir, verify)
        self.seed, self.num_tasks, self.batch_size = seed, num_tasks, batch_size
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint, self.data_description = data.fingerprint, f"{data.name} from {data.source}"
        self._data_name = data.name
        self._splits: dict[str, Batch] = data.to(device).splits
        self._normalise = normaliser(mean, std, data.image_shape[0], device)

    def _require_examples(self, **options: int | None) -> int:
        """The number of training images that an option asks for; None: all. Raises UserError for more than that."""
        ((option, asked),) = options.items()
        available = len(self._splits["train"][1])
        if asked is not None and not 1 <= asked <= available:
            raise UserError(f"must be 1..{available} with {self._data_name}, got {asked}", option=option)
        return available if asked is None else asked

    def _drawn(self, number: int, generator: torch.Generator) -> Batch:
        """So many training images, and their labels, of a random order."""
        images, labels = self._splits["train"]
        rows = torch.randperm(len(labels), generator=generator)[:number].to(labels.device)
        return images[rows], labels[rows]

    def _task(
        self,
        k: int,
        splits: Mapping[str, Batch],
        *,
        epochs: int,
        steps_per_epoch: int | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
        earlier: Earlier | None = None,
    ) -> ImageTask:
        """steps_per_epoch: None for as many as the training split has full batches. prepare: None for `mean`, `std`.

        Raises UserError where there is no full batch, for a stream that has not looked before.
        """
        examples = len(splits["train"][1])
        require_batch(self.batch_size, examples, option="benchmark.batch_size")
        return ImageTask(
            index=k,
            active=None,
            epochs=epochs,
            steps_per_epoch=examples // self.batch_size if steps_per_epoch is None else steps_per_epoch,
            batch_size=self.batch_size,
            seed=derive_seed(self.seed, "order"),
            splits=dict(splits),
            prepare=prepare or self._normalise,
            earlier=earlier,
        )
