"""Images class by class, for benchmarks whose tasks need only a few classes at a time."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from lop.data.images import ImageData
from lop.data.own_images import find_class_files
from lop.data.record import DATASETS
from lop.data.sources import load_images, own_path


class ClassImages(Protocol):
    """load(class_id) -> {"train": images (n, C, H, W), "test": images}."""

    @property
    def name(self) -> str: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, ...]: ...

    @property
    def source(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def load(self, class_id: int) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class SortedImages:
    """A data set seen class by class. rows: for each split, the row numbers of each class.

    open: gives the data. Mapped files are opened anew for each class, so that pages once read do not pile up.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, ...]
    source: str
    fingerprint: str
    rows: dict[str, tuple[Tensor, ...]]
    open: Callable[[], ImageData]

    def load(self, class_id: int) -> dict[str, Tensor]:
        splits = self.open().splits
        return {split: splits[split][0][rows[class_id]] for split, rows in self.rows.items()}


def rows_by_class(labels: Tensor, num_classes: int) -> tuple[Tensor, ...]:
    """Row numbers of each class, in their order in the data."""
    counts = torch.bincount(labels, minlength=num_classes)
    return torch.argsort(labels, stable=True).split(counts.tolist())


def _same(data: ImageData) -> ImageData:
    return data


def load_classes(name_or_path: str, data_dir: str | os.PathLike | None = None, verify: bool = True) -> ClassImages:
    """A data set by name or path, as `load_images`, but class files stay on disk until a class is asked for."""
    path = own_path(name_or_path, verify, DATASETS)
    if path is not None and (classes := find_class_files(path)) is not None:
        return classes
    record = DATASETS.get(name_or_path)
    if record is not None and record.load_classes is not None:
        return record.load_classes(record.found(data_dir, verify))
    data = load_images(name_or_path, data_dir, verify)
    rows = {split: rows_by_class(labels, data.num_classes) for split, (_, labels) in data.splits.items()}
    if record is not None and record.mapped:
        opened = partial(load_images, name_or_path, data_dir, verify)
    else:
        opened = partial(_same, data)
    return SortedImages(data.name, data.num_classes, data.image_shape, data.source, data.fingerprint, rows, opened)
