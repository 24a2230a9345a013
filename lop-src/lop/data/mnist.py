"""MNIST, Fashion-MNIST and EMNIST: four IDX files each, gzipped or not."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lop.data.fetch import RemoteFile
from lop.data.idx import content_md5, read_idx
from lop.data.images import Split, as_split
from lop.data.locate import best_folder, walk
from lop.data.record import DATASETS, DataSet, Found, Splits, archive_members, dataset

ROLES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BALANCED = tuple(f"emnist-balanced-{role}" for role in (*ROLES[:2], "test-images-idx3-ubyte", "test-labels-idx1-ubyte"))


def idx_files(roots: list[Path], names: Collection[str]) -> dict[Path, dict[str, Path]]:
    """{folder: {name: path}} of every folder below the roots that holds all these files.

    They may be gzipped, have a dot before idx as mirrors write it, or lie in a folder of their own name, as some
    mirrors unpack them.
    """
    found: dict[Path, dict[str, Path]] = {}
    for root in roots:
        for folder, _, files in walk(root):
            home = folder.parent if _plain(folder.name) in names else folder
            for file in files:
                if (name := _plain(file)) in names:
                    found.setdefault(home, {}).setdefault(name, folder / file)
    return {folder: files for folder, files in found.items() if all(name in files for name in names)}


def _plain(name: str) -> str:
    return re.sub(r"\.(?=idx[13]-ubyte)", "-", name.removesuffix(".gz"))


def find_idx(record: DataSet, roots: list[Path]) -> Path | None:
    """The folder of a record's four files; sets with the same names are told apart by content, then by path."""
    last = list(record.files)[-1]
    marks = {folder: files[last] for folder, files in idx_files(roots, record.files).items()}
    others = [other for other in DATASETS.values() if other.name != record.name]
    namesakes = [other for other in others if list(other.files) == list(record.files)]
    return best_folder(record, marks, content_md5, namesakes)


def _gzipped(address: tuple[str, ...], *facts: tuple[str, int]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{name}.gz", tuple(f"{folder}{name}.gz" for folder in address), md5, size)
        for name, (md5, size) in zip(ROLES, facts, strict=True)
    )


def _idx(name: str, *checksums: str, names: tuple[str, ...] = ROLES, **facts: Any):
    """The record of a data set in four IDX files.

    checksums: MD5, in the order of the names, of the uncompressed content: the compressed bytes differ between
    distributors. None are given where they were published for the archive only.
    """
    common: dict[str, Any] = {
        "image_shape": (1, 28, 28),
        "find_in": find_idx,
        "own_files": True,
        "normalised_by": "to [-1, 1], Kumar et al. 2023",
        "files": dict(zip(names, checksums, strict=True)) if checksums else dict.fromkeys(names),
        "by_hand": ", ".join(f"{file}.gz" for file in names),
    }
    return dataset(name, **{**common, **facts})


@_idx(
    "mnist",
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
    description="MNIST (LeCun 1998)",
    images=(60_000, 10_000),
    classes=10,
    downloads=_gzipped(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
        ("d53e105ee54ea40749a09fcbcd1e9432", 28_881),
        ("9fb629c4189551a2d022fa330f9573f3", 1_648_877),
        ("ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    ),
)
@_idx(
    "fashion_mnist",
    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "9018921c3c673c538a1fc5bad174d6f9",
    "8181f5470baa50b63fa0f6fddb340f0a",
    "15d484375f8d13e6eb1aabb0c3f46965",
    description="Fashion-MNIST (Xiao 2017)",
    images=(60_000, 10_000),
    classes=10,
    words=("fashion",),
    system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
    downloads=_gzipped(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
        ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    ),
)
@_idx(
    "emnist",
    description="EMNIST, its balanced split: digits and letters (Cohen 2017)",
    images=(112_800, 18_800),
    classes=47,
    normalised_by="to [-1, 1], Elsayed & Mahmood 2024",
    names=BALANCED,
    downloads=(
        RemoteFile(
            "gzip.zip",
            ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
            "58c8d27c78d21e728a6bc7b3cc06412e",
            562_000_000,
        ),
    ),
    install=archive_members("gzip"),
)
def load_idx(found: Found) -> Splits:
    """uint8 (N, 28, 28) and labels from 0, both as they are in the files.

    EMNIST's images are stored with rows and columns exchanged, and stay so, as in torchvision.
    """
    names = list(found.record.files)
    files = idx_files([found.path], names)[found.path]
    splits = {}
    for split, (images, labels) in {"train": names[:2], "test": names[2:]}.items():
        splits[split] = read_split(files[images], files[labels], found.digest(images), found.digest(labels))
    return splits


def read_split(images: Path, labels: Path, images_digest: str | None = None, labels_digest: str | None = None) -> Split:
    """One split from its two IDX files."""
    return as_split(read_idx(images, images_digest), read_idx(labels, labels_digest), images)
