"""Images in memory: what every source of images gives."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lop.utils.errors import UserError

Split = tuple[Tensor, Tensor]
MAX_CLASSES = 100_000  # a head has as many outputs: beyond it a label is damage
SUMMED_BYTES, SAMPLED_IMAGES = 2**28, 500  # of a data set's fingerprint


@dataclass(frozen=True)
class ImageData:
    """A labelled image data set.

    splits: "train" and "test", each (images uint8 (N, C, H, W), labels int64 (N,)).
    source: where the data came from, for people.
    """

    name: str
    splits: dict[str, Split]
    num_classes: int
    source: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.splits["train"][0].shape
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """Of shapes, labels, the sum of every image's bytes and a sample of whole images; where they lie is no part."""
        digest = hashlib.blake2b(digest_size=16)
        for name, (images, labels) in sorted(self.splits.items()):
            digest.update(f"{name} {tuple(images.shape)}".encode())
            digest.update(labels.numpy().tobytes())
            rows = images[:: max(1, images.numel() // SUMMED_BYTES)].flatten(1)  # mapped files are not read whole
            if rows.shape[1] % 8 == 0:
                digest.update(rows.contiguous().view(torch.int64).sum(1).numpy().tobytes())
            else:
                digest.update(rows.sum(1).numpy().tobytes())
            digest.update(images[:: max(1, len(images) // SAMPLED_IMAGES)].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "ImageData":
        """The same on a device; training selects its batches there."""
        device = torch.device(device)
        if device not in self._copies:
            splits = {name: (x.to(device), y.to(device)) for name, (x, y) in self.splits.items()}
            self._copies[device] = ImageData(self.name, splits, self.num_classes, self.source)
        return self._copies[device]

    @cached_property
    def _copies(self) -> "dict[torch.device, ImageData]":
        return {}


def as_split(images: np.ndarray, labels: np.ndarray, where: str | Path) -> Split:
    """(images, labels) as tensors. Accepts (N, H, W) and (N, C, H, W) uint8 with integer labels (N,).

    Raises UserError naming `where` for other types or shapes, an empty set, or numbers that differ.
    """
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(f"{where}: images must be uint8 (N, H, W) or (N, C, H, W), got {images.dtype} {images.shape}")
    if images.shape[1] not in (1, 3):
        raise UserError(f"{where}: images must have 1 or 3 channels first, got the shape {images.shape}")
    labels = checked_labels(labels, where)
    if not all(images.shape[2:]):
        raise UserError(f"{where}: images must have pixels, got the shape {images.shape}")
    if len(images) != len(labels) or not len(images):
        raise UserError(f"{where}: {len(images)} images but {len(labels)} labels; needs as many, and at least one")
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)


def checked_labels(labels: np.ndarray, where: str | Path) -> np.ndarray:
    """(N,) labels of any integer type as int64. Raises UserError naming `where` unless all are in [0, MAX_CLASSES)."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{where}: labels must be integers of the shape (N,), got {labels.dtype} {labels.shape}")
    if len(labels) and (labels.min() < 0 or labels.max() >= MAX_CLASSES):  # compared before uint64 could wrap
        bad = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{where}: labels must be >= 0 and < {MAX_CLASSES}, got {bad}")
    return labels.astype(np.int64)


def image_data(name: str, train: Split, test: Split, source: str) -> ImageData:
    """ImageData whose classes are 0..largest label. Raises UserError when train and test shapes differ."""
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = [tuple(split[0].shape[1:]) for split in (train, test)]
        raise UserError(f"{source}: train and test images must have one shape, got {shapes[0]} and {shapes[1]}")
    num_classes = int(max(train[1].max(), test[1].max())) + 1
    return ImageData(name, {"train": train, "test": test}, num_classes, source)
