"""Tiny ImageNet (Le & Yang 2015): 200 classes of 500 + 50 images, 3 x 64 x 64, kept as a memory-mapped cache."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lop.data.archive import DAMAGE
from lop.data.fetch import RemoteFile
from lop.data.image_folder import decode, stack_images
from lop.data.locate import DEFAULT_DATA_DIR, walk
from lop.data.npy import NPY_FILES, read_npy_folder, write_npy
from lop.data.record import DataSet, Found, Splits, dataset, not_published
from lop.utils.errors import UserError
from lop.utils.files import file_md5, require_regular

ARCHIVE = "tiny-imagenet-200.zip"
CACHE = "tiny_imagenet_cache"
MAX_TEXT = 1 << 24  # of wnids.txt and val_annotations.txt, which have 2 kB and 0.4 MB


def find_tiny_imagenet(record: DataSet, roots: list[Path]) -> Path | None:
    """The cache, else the unpacked folder, else the zip file."""
    return find_cache(roots) or find_source(roots)


def forget_cache(record: DataSet, fetched: list[Path], data_dir: Path) -> None:
    """The images are decoded again when the data is read."""
    shutil.rmtree(data_dir / CACHE, ignore_errors=True)


@dataset(
    "tiny_imagenet",
    description="Tiny ImageNet, its labelled images (Le & Yang 2015)",
    images=(100_000, 10_000),
    classes=200,
    image_shape=(3, 64, 64),
    by_hand=f"{ARCHIVE}, or its unpacked folder,",
    downloads=(
        RemoteFile(
            ARCHIVE, (f"http://cs231n.stanford.edu/{ARCHIVE}",), "90528d7ca1a48142e341f4ef8d21d0de", 248_100_043
        ),
    ),
    folder="",
    find_in=find_tiny_imagenet,
    install=forget_cache,
    mapped=True,
)
def load_tiny_imagenet(found: Found) -> Splits:
    """uint8 (3, 64, 64), sorted by class; "test" is the labelled val set.

    The images are decoded once, from the zip or its unpacked folder, into a cache in data_dir (or `data/`), and
    mapped into memory from there: only pages in use take memory.
    verify: the zip's MD5 and the numbers of classes and images. Raises UserError for bad or missing data.
    """
    cache = found.path
    if cache.name != CACHE:
        layout = Layout(found.path) if found.path.is_dir() else ZipLayout(found.path)
        cache = build_cache(layout, found)
    return read_npy_folder(found.record.name, cache).splits


def find_cache(roots: list[Path]) -> Path | None:
    """The first complete cache in the roots themselves, or in a folder attached to a Kaggle session."""
    for root in roots:
        for folder, subfolders, _ in walk(root):
            if CACHE in subfolders:
                return folder / CACHE
    return None


def _short_text(file: BinaryIO, where: str | Path) -> str:
    content = file.read(MAX_TEXT + 1)
    if len(content) > MAX_TEXT:
        raise UserError(f"{where} has more than {MAX_TEXT} bytes: fetch the data again")
    return content.decode()


class Layout:
    """The files of the zip's layout, in a folder."""

    def __init__(self, root: Path):
        self.root = root

    def text(self, name: str) -> str:
        path = self.root / name
        try:
            with open(require_regular(path), "rb") as file:
                return _short_text(file, path)
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{path} is missing or unreadable: fetch the data again") from None

    def list(self, folder: str) -> list[str]:
        """Names of the image files in a folder, sorted."""
        path = self.root / folder
        names = [p.name for p in path.iterdir()] if path.is_dir() else []
        return sorted(name for name in names if name.endswith(".JPEG"))

    def image(self, name: str) -> np.ndarray:
        return decode(self.root / name, self.root / name)


class ZipLayout(Layout):
    """The same in the zip itself, which need not be unpacked."""

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            self.zip = zipfile.ZipFile(require_regular(path))
        except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
            raise UserError(f"{path} is truncated, corrupt or no zip file ({error}): fetch it again") from None
        self.folders: dict[str, list[str]] = {}
        for name in self.zip.namelist():
            folder, _, file = name.removeprefix("tiny-imagenet-200/").rpartition("/")
            if file.endswith(".JPEG"):
                self.folders.setdefault(folder, []).append(file)

    def text(self, name: str) -> str:
        return self._read(name, lambda file: _short_text(file, f"{self.root}: {name}"))

    def list(self, folder: str) -> list[str]:
        return sorted(self.folders.get(folder, []))

    def image(self, name: str) -> np.ndarray:
        return self._read(name, lambda file: decode(file, f"{self.root}: {name}"))

    def _read(self, name: str, use):
        try:
            with self.zip.open(f"tiny-imagenet-200/{name}") as file:
                return use(file)
        except UserError:
            raise
        except (*DAMAGE, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.root}: {name} is missing or corrupt ({reason}): fetch it again") from None


def find_source(roots: list[Path]) -> Path | None:
    """The first unpacked folder (wnids.txt beside train/ and val/), or else zip file, below the roots."""
    archive = None
    for root in roots:
        for folder, subfolders, files in walk(root):
            if "wnids.txt" in files and {"train", "val"} <= set(subfolders):
                return folder
            if ARCHIVE in files and archive is None:
                archive = folder / ARCHIVE
    return archive


def build_cache(layout: Layout, found: Found) -> Path:
    """Decode all images into `data_dir`/CACHE, class by class; the folder appears when it is complete."""
    data_dir = DEFAULT_DATA_DIR if found.data_dir is None else found.data_dir
    published = found.record.downloads[0].md5
    if found.verify and isinstance(layout, ZipLayout) and (md5 := file_md5(layout.root)) != published:
        raise not_published(layout.root, md5, published)
    wnids = layout.text("wnids.txt").split()
    splits = {"train": _train_files(layout, wnids), "test": _val_files(layout, wnids)}
    _check_numbers(layout, wnids, splits, found)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{CACHE}.", dir=data_dir))
    except OSError as error:
        raise UserError(
            f"{data_dir} cannot be written to ({error.strerror}): set data_dir to a folder that can"
        ) from None
    try:
        for files, images, labels in zip(splits.values(), NPY_FILES[::2], NPY_FILES[1::2], strict=True):
            counts = [len(names) for names in files]
            shape = (sum(counts), *layout.image(files[0][0]).shape)
            write_npy(partial / images, shape, np.uint8, _blocks(layout, files, shape[1:]))
            write_npy(partial / labels, shape[:1], np.int64, [np.repeat(np.arange(len(wnids)), counts)])
        os.replace(partial, data_dir / CACHE)
    except OSError as error:
        raise UserError(f"{data_dir / CACHE} cannot be written ({error.strerror}): free some space there") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return data_dir / CACHE


def _train_files(layout: Layout, wnids: list[str]) -> list[list[str]]:
    return [[f"train/{wnid}/images/{name}" for name in layout.list(f"train/{wnid}/images")] for wnid in wnids]


def _val_files(layout: Layout, wnids: list[str]) -> list[list[str]]:
    files: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    for number, line in enumerate(layout.text("val/val_annotations.txt").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in files:
            raise UserError(f"{layout.root}: val/val_annotations.txt line {number} is malformed: fetch the data again")
        files[fields[1]].append(f"val/images/{fields[0]}")
    return [files[wnid] for wnid in wnids]


def _check_numbers(layout: Layout, wnids: list[str], splits: dict[str, list[list[str]]], found: Found) -> None:
    record = found.record
    wanted = record.classes if found.verify else max(1, len(wnids))
    if len(wnids) != wanted:
        raise UserError(f"{layout.root}: wnids.txt names {len(wnids)} classes instead of {wanted}: fetch it again")
    for (split, files), images in zip(splits.items(), record.images, strict=True):
        for wnid, names in zip(wnids, files, strict=True):
            if not names or (found.verify and len(names) != images // record.classes):
                raise UserError(
                    f"{layout.root}: class {wnid} has {len(names)} {split} images instead of "
                    f"{images // record.classes}: fetch it again, or set verify to false for data of your own"
                )


def _blocks(layout: Layout, files: list[list[str]], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for names in files:
        block = stack_images((layout.image(name), name) for name in names)
        if block.shape[1:] != shape:
            raise UserError(f"{layout.root}: {names[0]} is {block.shape[1:]}, other images {shape}: give all one size")
        yield block
