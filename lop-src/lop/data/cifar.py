"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their python format."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lop.data.images import ImageData, Split, as_split, checked_labels, image_data
from lop.data.locate import missing, search_roots, walk
from lop.data.safe_pickle import load_pickled_arrays
from lop.utils.errors import UserError
from lop.utils.files import file_md5

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class CifarFiles:
    """train, test: published MD5 by file name. folder: the archive's folder. archive: its name."""

    train: dict[str, str]
    test: dict[str, str]
    folder: str
    archive: str

    @property
    def names(self) -> list[str]:
        return [*self.train, *self.test]


CIFAR = {
    "cifar10": CifarFiles(
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
    ),
    "cifar100": CifarFiles(
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
    ),
}


def load_cifar(name: str, data_dir: str | os.PathLike | None, verify: bool) -> ImageData:
    """`cifar10` or `cifar100` (fine labels): 50,000 + 10,000 images, uint8 (3, 32, 32).

    Raises UserError when files are missing, truncated, corrupt, or (with verify) not the published ones.
    """
    folder = find_cifar(name, data_dir)
    if folder is None:
        raise missing(name, [f"the folder {CIFAR[name].folder} of {CIFAR[name].archive}"], data_dir)
    return read_cifar(name, folder, CIFAR[name], verify)


def find_cifar(name: str, data_dir: str | os.PathLike | None) -> Path | None:
    """The data set's folder, or None."""
    files = CIFAR[name]
    folders = cifar_folders(search_roots(data_dir), files)
    # "train" and "test" are common names: a folder counts when its path says CIFAR, or its content is published
    named = [folder for folder in folders if "cifar" in str(folder.resolve()).lower()]
    known = named or [folder for folder in folders if _published(folder, files)]
    return known[0] if known else None


def cifar_folders(roots: list[Path], files: CifarFiles) -> list[Path]:
    """The folders below the roots that hold all files."""
    return [folder for root in roots for folder, _, names in walk(root) if set(files.names) <= set(names)]


def read_cifar(name: str, folder: Path, files: CifarFiles, verify: bool) -> ImageData:
    """The data set in one folder."""
    train, test = (_read_split(folder, part, verify) for part in (files.train, files.test))
    return image_data(name, train, test, str(folder))


def _published(folder: Path, files: CifarFiles) -> bool:
    # a foreign folder may hold a pipe or a folder of that name
    return all((folder / n).is_file() and file_md5(folder / n) == digest for n, digest in files.test.items())


def _read_split(folder: Path, files: dict[str, str], verify: bool) -> Split:
    images, labels = [], []
    for name, digest in files.items():
        path = folder / name
        if verify and (found := file_md5(path)) != digest:
            raise UserError(
                f"{path} is not the published file (MD5 {found}, expected {digest}): "
                "fetch it again, or set verify to false for data of your own"
            )
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
        images.append(rows.reshape(-1, 3, 32, 32))
        labels.append(marks)
    return as_split(np.concatenate(images), np.concatenate(labels), folder)
