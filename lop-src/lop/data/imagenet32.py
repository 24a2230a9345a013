"""ImageNet-32 as continual ImageNet uses it: a folder `classes/` of 1,000 files `<id>.npy` (Dohare 2024)."""

from pathlib import Path

import numpy as np

from lop.data.archive import extract
from lop.data.fetch import RemoteFile
from lop.data.locate import put, unpacking, walk
from lop.data.npy import ClassFiles, class_files
from lop.data.record import DataSet, Found, Splits, dataset
from lop.utils.errors import UserError

MARK = "0.npy"


def find_classes(record: DataSet, roots: list[Path]) -> Path | None:
    """The folder of class files, or None."""
    for root in roots:
        for folder, _, files in walk(root):
            if folder.name == "classes" and MARK in files:
                return folder
    return None


def install_classes(record: DataSet, fetched: list[Path], data_dir: Path) -> None:
    """Whatever folder of the archive holds the class files becomes data_dir / imagenet32 / classes."""
    with unpacking(data_dir) as partial:
        try:
            extract(fetched[0], partial)
        except UserError:
            fetched[0].unlink()  # no checksum was published: only now is it known to be bad
            raise
        found = next(partial.rglob(MARK), None)
        if found is None:
            raise UserError(f"{fetched[0]} does not hold the file {MARK}: fetch it again")
        put(found.parent, data_dir / record.name / "classes")
    fetched[0].unlink()


def imagenet32_classes(found: Found) -> ClassFiles:
    """The class files. verify: 1,000 of them, 700 x 3 x 32 x 32 (no checksums were published)."""
    data, record = class_files(found.record.name, found.path), found.record
    test = record.images[1] // record.classes
    if found.verify and (data.num_classes, data.test_images, data.image_shape) != (
        record.classes,
        test,
        record.image_shape,
    ):
        raise UserError(
            f"{data.folder} has {data.num_classes} classes of {data.image_shape} images instead of {record.classes} "
            f"files of {sum(record.images) // record.classes} x {record.image_shape}: fetch it again, "
            "or set verify to false for data of your own"
        )
    return data


@dataset(
    "imagenet32",
    description="ImageNet-32, class by class (Dohare 2024)",
    images=(600_000, 100_000),
    classes=1000,
    image_shape=(3, 32, 32),
    normalised_by="to [-1, 1], Dohare et al. 2024",
    by_hand="the folder classes/ of 1,000 files 0.npy .. 999.npy",
    downloads=(
        RemoteFile(
            "imagenet32-classes.archive",
            (
                "https://drive.usercontent.google.com/download"
                "?id=1i0ok3LT5_mYmFWaN7wlkpHsitUngGJ8z&export=download&confirm=t",
            ),
            None,
            2_150_000_000,
        ),
    ),
    folder="",
    find_in=find_classes,
    install=install_classes,
    load_classes=imagenet32_classes,
)
def load_imagenet32(found: Found) -> Splits:
    """All classes in memory (2.2 GB); benchmarks that need few classes at a time read `load_classes`."""
    return in_memory(imagenet32_classes(found))


def in_memory(classes: ClassFiles) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A folder of class files as the splits of one data set."""
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for class_id in range(classes.num_classes):
        for split, tensor in classes.load(class_id).items():
            images[split].append(tensor.numpy())
    return {
        split: (np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(p) for p in parts]))
        for split, parts in images.items()
    }
