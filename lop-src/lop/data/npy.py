"""Images as .npy files: four files for a data set, or one file per class."""

import hashlib
import math
import os
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lop.data.images import ImageData, as_split, image_data
from lop.utils.errors import UserError, shown
from lop.utils.files import require_regular

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
NPY_FILES = ["train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"]


def map_npy(path: Path) -> np.ndarray:
    """One array, mapped into memory: pages are read when they are used. Raises UserError for a bad file."""
    if not path.exists():
        raise UserError(f"{path} is missing: put it there, or fetch the data again")
    require_regular(path)
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"version {version} of the format")
            shape, fortran_order, dtype = _HEADERS[version](file)
            start = file.tell()
        if dtype.hasobject or min(shape, default=1) < 0:
            raise ValueError(f"{dtype} of the shape {shape}")
        # in Python's integers, which do not overflow as numpy's do
        expected = start + math.prod(shape) * dtype.itemsize
        if expected != path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes instead of {shown(expected)}")
        # copy-on-write, because torch warns about arrays that are read-only
        return np.memmap(path, dtype, "c", start, shape, "F" if fortran_order else "C")
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        OSError,
        EOFError,
        SyntaxError,
        MemoryError,
        RecursionError,
        tokenize.TokenError,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is truncated, corrupt or not a .npy file ({reason}): fetch it again") from None


def read_npy_folder(name: str, folder: Path) -> ImageData:
    """A data set in NPY_FILES: images uint8 (N, H, W), (N, C, H, W) or (N, H, W, C), labels integer (N,)."""
    arrays = [map_npy(folder / file) for file in NPY_FILES]
    train, test = (as_split(_channels_first(arrays[i]), arrays[i + 1], folder / NPY_FILES[i]) for i in (0, 2))
    return image_data(name, train, test, str(folder))


def _channels_first(images: np.ndarray) -> np.ndarray:
    last = images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3)
    return images.transpose(0, 3, 1, 2) if last else images


def write_npy(path: Path, shape: tuple[int, ...], dtype: type, blocks: Iterable[np.ndarray]) -> None:
    """Write an array block by block along the first dimension, never holding more than one block."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
        file.flush()
        os.fsync(file.fileno())


SAMPLED_BYTES = 4096  # of three parts of a class file, for its fingerprint


@dataclass(frozen=True)
class ClassFiles:
    """A folder of `<class id>.npy` with ids 0..n-1, each (images, C, H, W); the last `test_images` are for testing.

    Continual ImageNet's format (Dohare 2024): 1,000 files of 700 x 3 x 32 x 32. Files are read when asked for.
    """

    name: str
    folder: Path
    num_classes: int
    test_images: int
    image_shape: tuple[int, ...]

    @property
    def source(self) -> str:
        return str(self.folder)

    @property
    def fingerprint(self) -> str:
        """Of every file's size and of three parts of it: the files are too many to be read whole."""
        digest = hashlib.blake2b(digest_size=16)
        for class_id in range(self.num_classes):
            with open(self.folder / f"{class_id}.npy", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{class_id} {size}".encode())
                for start in (0, size // 2, max(0, size - SAMPLED_BYTES)):
                    file.seek(start)
                    digest.update(file.read(SAMPLED_BYTES))
        return digest.hexdigest()

    def load(self, class_id: int) -> dict[str, Tensor]:
        """{"train": images, "test": images} of one class, uint8 or, where the file has them, float32 as stored."""
        path = self.folder / f"{class_id}.npy"
        images = map_npy(path)
        if images.dtype not in (np.uint8, np.float32, np.float64) or images.shape[1:] != self.image_shape:
            raise UserError(
                f"{path}: needs uint8 or float images of the shape (N, {', '.join(map(str, self.image_shape))}), "
                f"got {images.dtype} {images.shape}"
            )
        if len(images) <= self.test_images:
            raise UserError(f"{path}: needs more than the {self.test_images} test images, got {len(images)}")
        if images.dtype != np.uint8 and not np.isfinite(images).all():
            raise UserError(f"{path}: has pixels that are not finite: fetch it again")
        tensor = torch.from_numpy(np.array(images))
        tensor = tensor if tensor.dtype == torch.uint8 else tensor.float()
        return {"train": tensor[: -self.test_images], "test": tensor[-self.test_images :]}


def class_files(name: str, folder: Path) -> ClassFiles:
    """The ClassFiles of a folder; every seventh part of a class is for testing, as in 700 = 600 + 100."""
    count = sum(1 for path in folder.glob("*.npy") if path.stem.isdigit())
    for class_id in range(count):
        if not (folder / f"{class_id}.npy").is_file():
            raise UserError(f"{folder / f'{class_id}.npy'} is missing: ids must be 0..{count - 1}, one file per class")
    first = map_npy(folder / "0.npy")
    if first.ndim != 4 or first.shape[1] not in (1, 3) or len(first) < 2:
        raise UserError(f"{folder / '0.npy'}: needs the shape (N, 1 or 3, H, W), got {first.shape}")
    return ClassFiles(name, folder, count, max(1, len(first) // 7), first.shape[1:])
