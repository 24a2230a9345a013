"""One record per data set: all that is known of it, put there beside its loader, inside the package or outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lop.data.archive import extract
from lop.data.fetch import RemoteFile
from lop.data.images import ImageData, as_split, image_data
from lop.data.locate import best_folder, folders_with, missing, put, search_roots, unpacking
from lop.utils.errors import UserError
from lop.utils.files import file_md5
from lop.utils.registry import Registry

Splits = Mapping[str, tuple[np.ndarray | Tensor, np.ndarray | Tensor]]
Loader = Callable[["Found"], Splits]
Finder = Callable[["DataSet", list[Path]], "Path | None"]
Installer = Callable[["DataSet", list[Path], Path], None]  # record, fetched files, data_dir


@dataclass(frozen=True)
class Found:
    """A data set where it lies. path: the folder of its files. verify: compare them with the published checksums.

    data_dir: the folder that was asked for, or None; where something made of the files may be kept.
    """

    record: DataSet
    path: Path
    verify: bool
    data_dir: Path | None = None

    def digest(self, name: str) -> str | None:
        """The MD5 that a file's content must have, or None where it is not to be compared."""
        return self.record.files[name] if self.verify else None

    def file(self, name: str) -> Path:
        """The path of a file, compared with its checksum. Raises UserError when it is another."""
        path = self.path / name
        if (digest := self.digest(name)) is not None and (found := file_md5(path)) != digest:
            raise not_published(path, found, digest)
        return path


def not_published(path: Path, found: str, expected: str | None) -> UserError:
    return UserError(
        f"{path} is not the published file (MD5 {found}, expected {expected}): "
        "fetch it again, or set verify to false for data of your own"
    )


def find_files(record: DataSet, roots: list[Path]) -> Path | None:
    """The folder that holds all of a record's files under exactly their names."""
    marks = {folder: folder / list(record.files)[-1] for folder in folders_with(roots, record.files)}
    return best_folder(record, marks, file_md5)


def keep(record: DataSet, fetched: list[Path], data_dir: Path) -> None:
    """Nothing to do: what was fetched is what is read."""


@dataclass(frozen=True)
class DataSet:
    """A data set by name. Its loader gives {"train": (images, labels), "test": (images, labels)}.

    Images are uint8 (N, H, W) or (N, C, H, W), labels integers (N,). images: how many in train and test.
    mean, std: inputs are (x / 255 - mean) / std in `normalised_by`, a number for all channels or one each.

    files: what a folder of the data set holds, by name, with the published MD5 of the content (None: none was
    published). words: of a path, that say which of several data sets with files of the same names it holds.
    common_names: the file names alone do not say that it is this data set; a word of the path or the content must.
    system_folders: where the system's packages put it. downloads: what is fetched, into `folder` below data_dir.
    by_hand: what to put there without a download.

    load_classes: for a data set kept class by class: gives its images class by class, without reading all of them.
    mapped: its images stay on the disk and are mapped into memory.
    own_files: a user's own images may come in files of these names and this format.
    """

    name: str
    loader: Loader
    description: str
    images: tuple[int, int]
    classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    normalised_by: str = "to [-1, 1], ours"
    files: Mapping[str, str | None] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    common_names: bool = False
    system_folders: tuple[Path, ...] = ()
    downloads: tuple[RemoteFile, ...] = ()
    folder: str | None = None
    by_hand: str | None = None
    find_in: Finder = find_files
    install: Installer = keep
    load_classes: Callable[[Found], Any] | None = None
    mapped: bool = False
    own_files: bool = False

    @property
    def source(self) -> Loader:
        """What was decorated: where the registry says the name is from."""
        return self.loader

    @property
    def subfolder(self) -> str:
        """Of data_dir, for the downloads."""
        return self.name if self.folder is None else self.folder

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.downloads)

    def find(self, data_dir: str | os.PathLike | None = None) -> Path | None:
        """Where it lies: in data_dir (or `data/`), in the Kaggle input folder or in a system folder; None: nowhere."""
        return self.find_in(self, search_roots(data_dir, self.system_folders))

    def found(self, data_dir: str | os.PathLike | None = None, verify: bool = True) -> Found:
        """Raises MissingDataError when it is nowhere."""
        path = self.find(data_dir)
        if path is None:
            needed = self.by_hand or ", ".join(self.files)
            raise missing(self.name, needed, data_dir, self._plugin())
        return Found(self, path, verify, None if data_dir is None else Path(data_dir))

    def _plugin(self) -> str | None:
        """The file or module outside the package that brought this record: the command line must be told."""
        module = getattr(self.loader, "__module__", "")
        if module.split(".")[0] in ("lop", "__main__", ""):
            return None
        return getattr(sys.modules.get(module), "__file__", None) or module

    def load(self, data_dir: str | os.PathLike | None = None, verify: bool = True) -> ImageData:
        """Its images. Raises UserError, one line, for data that is missing, truncated, corrupt or of another size."""
        return self.read(self.found(data_dir, verify), self.name)

    def read(self, found: Found, name: str) -> ImageData:
        """The images at a place, under a name. verify: also their numbers, shape and classes."""
        splits = self.loader(found)
        try:
            train, test = splits["train"], splits["test"]
        except (KeyError, TypeError):
            raise UserError(f"dataset {self.name}: its loader must give train and test") from None
        data = image_data(name, _tensors(train, found.path), _tensors(test, found.path), str(found.path))
        if found.verify:
            numbers = tuple(len(data.splits[split][1]) for split in ("train", "test"))
            there = f"{numbers[0]} + {numbers[1]} images {data.image_shape} of {data.num_classes} classes"
            wanted = f"{self.images[0]} + {self.images[1]} images {self.image_shape} of {self.classes} classes"
            if there != wanted:
                raise UserError(
                    f"{found.path} holds {there} instead of {wanted}: "
                    "fetch it again, or set verify to false for data of your own"
                )
        return data

    def check(self, data_dir: str | os.PathLike | None = None) -> None:
        """Read what is there and compare it. Raises UserError for data that is missing or bad."""
        found = self.found(data_dir)
        if self.load_classes is not None:
            self.load_classes(found)
        else:
            self.read(found, self.name)


def _tensors(split: tuple[np.ndarray | Tensor, np.ndarray | Tensor], where: Path) -> tuple[Tensor, Tensor]:
    images, labels = split
    if isinstance(images, Tensor) and isinstance(labels, Tensor):
        return images, labels
    return as_split(np.asarray(images), np.asarray(labels), where)


DATASETS: Registry[DataSet] = Registry("dataset")


def dataset(
    name: str, *, description: str, images: tuple[int, int], classes: int, image_shape: tuple[int, int, int], **facts
):
    """Decorator: `@dataset("name", description=..., images=..., classes=..., image_shape=...)` on a loader.

    The loader is called with a `Found` and gives the splits. facts: the other fields of a DataSet.
    """

    def register(loader: Loader) -> Loader:
        DATASETS.add(name, DataSet(name, loader, description, images, classes, image_shape, **facts))
        return loader

    return register


def archive_folder(name: str) -> Installer:
    """Installs an archive that holds a folder `name`: the folder is put below data_dir, the archive goes."""

    def install(record: DataSet, fetched: list[Path], data_dir: Path) -> None:
        with unpacking(data_dir) as partial:
            extract(fetched[0], partial)
            if not (partial / name).is_dir():
                raise UserError(f"{fetched[0]} does not hold the folder {name}: fetch it again")
            put(partial / name, data_dir / name)
        fetched[0].unlink()

    return install


def archive_members(folder: str) -> Installer:
    """Installs from an archive those members `folder`/<file> that are the record's files, gzipped; the archive goes."""

    def install(record: DataSet, fetched: list[Path], data_dir: Path) -> None:
        names = [f"{name}.gz" for name in record.files]
        with unpacking(data_dir) as partial:
            extract(fetched[0], partial, only=[f"{folder}/{name}" for name in names])
            for name in names:
                os.replace(partial / folder / name, data_dir / record.subfolder / name)
        fetched[0].unlink()

    return install


def normalisation(dataset: str, otherwise: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Published (mean, std) of a data set; of `otherwise` for a user's own images; 0.5 where the channels differ."""
    record = DATASETS.get(dataset, DATASETS[otherwise])
    fits = len(record.mean) in (1, channels)
    return (record.mean, record.std) if fits else ((0.5,), (0.5,))


def as_table() -> str:
    """The records as a table in Markdown, as `data/README.md` has it."""
    lines = ["| name | what | images | classes | normalised | to fetch |", "| --- | --- | --- | --- | --- | --- |"]
    for _, record in sorted(DATASETS.items()):
        shape = "x".join(map(str, record.image_shape))
        numbers = f"{record.images[0]:,} + {record.images[1]:,}, {shape}"
        values = f"mean {_shown(record.mean)}, std {_shown(record.std)} ({record.normalised_by})"
        size = f"{record.size / 1e6:,.0f} MB" if record.downloads else "always there"
        lines.append(f"| `{record.name}` | {record.description} | {numbers} | {record.classes} | {values} | {size} |")
    return "\n".join(lines)


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
