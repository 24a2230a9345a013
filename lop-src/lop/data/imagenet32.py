"""ImageNet-32 as continual ImageNet uses it: a folder `classes/` of 1,000 files `<id>.npy` (Dohare 2024)."""

import os
from pathlib import Path

import numpy as np

from lop.data.images import ImageData, as_split, image_data
from lop.data.locate import missing, search_roots, walk
from lop.data.npy import ClassFiles, class_files
from lop.utils.errors import UserError

CLASSES, IMAGES, SHAPE = 1000, 700, (3, 32, 32)


def load_imagenet32_classes(data_dir: str | os.PathLike | None, verify: bool) -> ClassFiles:
    """The class files. verify: 1,000 of them, 700 x 3 x 32 x 32 (no checksums were published)."""
    folder = find_imagenet32(data_dir)
    if folder is None:
        raise missing("imagenet32", ["the folder classes/ of 1,000 files 0.npy .. 999.npy"], data_dir)
    return _checked(class_files("imagenet32", folder), verify)


def find_imagenet32(data_dir: str | os.PathLike | None) -> Path | None:
    """The folder of class files, or None."""
    for root in search_roots(data_dir):
        for folder, _, files in walk(root):
            if folder.name == "classes" and "0.npy" in files:
                return folder
    return None


def _checked(data: ClassFiles, verify: bool) -> ClassFiles:
    if verify and (data.num_classes != CLASSES or data.test_images != IMAGES // 7 or data.image_shape != SHAPE):
        raise UserError(
            f"{data.folder} has {data.num_classes} classes of {data.image_shape} images instead of {CLASSES} files of "
            f"{IMAGES} x {SHAPE}: fetch it again, or set verify to false for data of your own"
        )
    return data


def load_imagenet32(data_dir: str | os.PathLike | None, verify: bool) -> ImageData:
    """All classes in memory (2.2 GB); benchmarks that need few classes at a time read `load_imagenet32_classes`."""
    return in_memory(load_imagenet32_classes(data_dir, verify))


def in_memory(classes: ClassFiles) -> ImageData:
    """A folder of class files as one data set. Raises UserError when the files are not uint8."""
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for class_id in range(classes.num_classes):
        for split, tensor in classes.load(class_id).items():
            images[split].append(tensor.numpy())
    train, test = (
        as_split(np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(p) for p in parts]), Path(classes.source))
        for parts in (images["train"], images["test"])
    )
    return image_data(classes.name, train, test, classes.source)
