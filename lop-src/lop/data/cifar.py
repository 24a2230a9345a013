"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their python format."""

from functools import partial
from pathlib import Path

import numpy as np

from lop.data.fetch import RemoteFile
from lop.data.images import Split, as_split, checked_labels
from lop.data.record import Found, Splits, archive_folder, dataset
from lop.data.safe_pickle import load_pickled_arrays
from lop.utils.errors import UserError

PIXELS = 3 * 32 * 32


def _archive(name: str, md5: str, size: int) -> tuple[RemoteFile, ...]:
    return (RemoteFile(name, (f"https://www.cs.toronto.edu/~kriz/{name}",), md5, size),)


# "train" and "test" are common names: a folder counts when its path says CIFAR, or its content is published
_cifar = partial(
    dataset,
    images=(50_000, 10_000),
    image_shape=(3, 32, 32),
    words=("cifar",),
    common_names=True,
    folder="",
    own_files=True,
)


@_cifar(
    "cifar10",
    description="CIFAR-10 (Krizhevsky 2009)",
    classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.247, 0.243, 0.261),
    normalised_by="Kumar et al. 2023",
    files={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    by_hand="the folder cifar-10-batches-py of cifar-10-python.tar.gz",
    downloads=_archive("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071),
    install=archive_folder("cifar-10-batches-py"),
)
@_cifar(
    "cifar100",
    description="CIFAR-100, fine labels (Krizhevsky 2009)",
    classes=100,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    normalised_by="Dohare et al. 2024",
    files={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    by_hand="the folder cifar-100-python of cifar-100-python.tar.gz",
    downloads=_archive("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
    install=archive_folder("cifar-100-python"),
)
def load_cifar(found: Found) -> Splits:
    """uint8 (N, 3, 32, 32) and labels; the last file is for testing."""
    *train, test = found.record.files
    return {"train": _read(found, train), "test": _read(found, [test])}


def _read(found: Found, names: list[str]) -> Split:
    parts = [_read_file(found.file(name)) for name in names]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return as_split(images, labels, found.path)


def _read_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = load_pickled_arrays(path)
    rows = content.get(b"data", content.get("data"))
    marks = next((content[k] for k in (b"fine_labels", b"labels", "fine_labels", "labels") if k in content), None)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != PIXELS:
        raise UserError(f"{path}: data must be a uint8 array of the shape (N, {PIXELS}): fetch it again")
    try:
        marks = np.atleast_1d(np.asarray(marks))
    except (TypeError, ValueError):
        raise UserError(f"{path}: labels or fine_labels must be a list of integers: fetch it again") from None
    marks = checked_labels(marks, path)
    if len(marks) != len(rows):
        raise UserError(f"{path}: {len(rows)} images but {len(marks)} labels: fetch it again")
    return rows.reshape(-1, 3, 32, 32), marks
