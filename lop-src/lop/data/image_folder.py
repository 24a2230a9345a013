"""Images as single files: `<class>/<image>`, with or without `train/` and `test/` (or `val/`) above."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from lop.data.images import ImageData, Split, as_split, image_data
from lop.utils.errors import UserError
from lop.utils.files import require_regular

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff", ".webp"}
TEST_EVERY = 6  # without a test folder, every sixth image of a class is for testing


def decode(file: Path | BinaryIO, where: str | Path, mode: str = "RGB") -> np.ndarray:
    """One image as uint8 (C, H, W). Raises UserError naming `where` when it cannot be decoded."""
    with _opened(file, where) as image:
        pixels = np.asarray(image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def _opened(file: Path | BinaryIO, where: str | Path) -> Iterator[Image.Image]:
    if isinstance(file, Path):
        require_regular(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # more than 90 million pixels
            with Image.open(file) as image:
                yield image
    except Exception as error:  # the bytes decide what a decoder stumbles over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where} is truncated, corrupt or no image ({reason}): replace it") from None


def class_folders(folder: Path) -> list[Path]:
    """The subfolders that hold image files, sorted by name: one per class."""
    if not folder.is_dir():
        return []
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and any(_is_image(path) for path in sub.iterdir()))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def read_image_folder(name: str, folder: Path) -> ImageData:
    """The data set below a folder; all images must have one size. Classes are numbered by sorted folder name."""
    test_folder = next((folder / sub for sub in ("test", "val") if class_folders(folder / sub)), None)
    if class_folders(folder / "train") and test_folder is not None:
        listing = {"train": _listing(folder / "train"), "test": _listing(test_folder)}
        if unknown := {path.parent.name for path in listing["test"]} - {p.parent.name for p in listing["train"]}:
            raise UserError(f"{test_folder} has classes that {folder / 'train'} does not: {', '.join(sorted(unknown))}")
    else:
        rows = [(i, path) for sub in class_folders(folder) for i, path in enumerate(_listing_of_class(sub))]
        listing = {
            "train": [path for i, path in rows if i % TEST_EVERY != TEST_EVERY - 1],
            "test": [path for i, path in rows if i % TEST_EVERY == TEST_EVERY - 1],
        }
        if not listing["test"]:
            raise UserError(f"{folder}: needs at least {TEST_EVERY} images in a class, or train/ and test/ folders")
    ids = {label: i for i, label in enumerate(sorted({path.parent.name for path in listing["train"]}))}
    with _opened(listing["train"][0], listing["train"][0]) as first:
        mode = "L" if first.mode in ("1", "L") else "RGB"
    train, test = (_read(listing[split], ids, mode) for split in ("train", "test"))
    return image_data(name, train, test, str(folder))


def _listing(folder: Path) -> list[Path]:
    return [path for sub in class_folders(folder) for path in _listing_of_class(sub)]


def _listing_of_class(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_image(path))


def _read(paths: list[Path], ids: dict[str, int], mode: str) -> Split:
    images = stack_images((decode(path, path, mode), path) for path in paths)
    return as_split(images, np.array([ids[path.parent.name] for path in paths]), paths[0].parent.parent)


def stack_images(images: Iterable[tuple[np.ndarray, str | Path]]) -> np.ndarray:
    """(N, C, H, W) of (image, where). Raises UserError naming the first image of another size."""
    stack: list[np.ndarray] = []
    for image, where in images:
        if stack and image.shape != stack[0].shape:
            raise UserError(f"{where} is {image.shape}, the images before it {stack[0].shape}: give all one size")
        stack.append(image)
    return np.stack(stack)
