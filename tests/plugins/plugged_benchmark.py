"""A benchmark of one's own, in one file: in task k every label is k higher, modulo the number of classes."""

import lop
from lop.data.image_task import ImageTask
from lop.data.options import require_batch
from lop.data.sources import load_images
from lop.utils.ranges import COUNT, require

CONTRACT_OPTIONS = {"plugged_shift": {"num_tasks": 5}}


def scaled(images):
    return images.float() / 255


@lop.benchmark("plugged_shift", family="plugged", net={"name": "mlp", "hidden": [6]})
class ShiftedLabels(lop.TaskStream):
    def __init__(self, seed, data_dir, device, *, dataset: str = "digits", num_tasks: int = 2, batch_size: int = 8):
        require(COUNT, num_tasks=num_tasks, batch_size=batch_size)
        data = load_images(dataset, data_dir, True)
        require_batch(batch_size, len(data.splits["train"][1]))
        self.seed, self.num_tasks, self.batch_size = seed, num_tasks, batch_size
        self.input_shape, self.num_outputs = data.image_shape, data.num_classes
        self.data_fingerprint, self.data_description = data.fingerprint, f"{data.name} from {data.source}"
        self._splits = data.to(device).splits

    def task(self, k):
        shifted = {split: (x, (y + k) % self.num_outputs) for split, (x, y) in self._splits.items()}
        steps = len(shifted["train"][1]) // self.batch_size
        common = {"index": k, "active": None, "epochs": 1, "batch_size": self.batch_size, "seed": self.seed}
        return ImageTask(**common, steps_per_epoch=steps, splits=shifted, prepare=scaled)
