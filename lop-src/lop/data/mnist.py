"""MNIST (LeCun 1998) and Fashion-MNIST (Xiao 2017): four IDX files each, gzipped or not."""

import os
import re
from pathlib import Path

from lop.data.idx import content_md5, read_idx
from lop.data.images import ImageData, Split, as_split, image_data
from lop.data.locate import find_files, missing, search_roots
from lop.utils.errors import UserError

FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
# mirrors write train-images.idx3-ubyte as well
FILE_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx([13])-ubyte(\.gz)?")

# MD5 of the uncompressed content, in the order of FILES
DIGESTS = {
    "mnist": [
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ],
    "fashion_mnist": [
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ],
}
SYSTEM_FOLDERS = {"mnist": (), "fashion_mnist": (Path("/usr/share/datasets/fashion-mnist"),)}


def load_mnist(name: str, data_dir: str | os.PathLike | None, verify: bool) -> ImageData:
    """`mnist` or `fashion_mnist`: 60,000 + 10,000 images, uint8 (1, 28, 28), 10 classes.

    The two have the same file names, so that with `verify` each file is known by its content.
    Raises UserError when files are missing, truncated, corrupt, or not the published ones.
    """
    files = find_mnist(name, data_dir)
    if files is None:
        raise missing(name, [f"{file}.gz" for file in FILES], data_dir)
    digests = DIGESTS[name] if verify else [None] * len(FILES)
    train, test = (read_split(files[i], files[i + 1], digests[i], digests[i + 1]) for i in (0, 2))
    return image_data(name, train, test, str(files[0].parent))


def find_mnist(name: str, data_dir: str | os.PathLike | None) -> list[Path] | None:
    """The data set's four files in the order of FILES, or None."""
    folders = complete_sets(search_roots(data_dir, SYSTEM_FOLDERS[name]))
    # identity comes first, then whoever says so by its path, then the order of the search
    ours = sorted((rank, i) for i, paths in enumerate(folders) if (rank := _rank(name, paths)) is not None)
    return folders[ours[0][1]] if ours else None


def _rank(name: str, files: list[Path]) -> int | None:
    """0 for a set known by the content of its smallest file, None for another data set's, else 1 or 2."""
    try:
        found = content_md5(files[3])
    except UserError:
        found = None
    for known, digests in DIGESTS.items():
        if found == digests[3]:
            return 0 if known == name else None
    says_fashion = "fashion" in str(files[3].parent).lower()
    return 1 if says_fashion == (name == "fashion_mnist") else 2


def read_split(images: Path, labels: Path, images_digest: str | None = None, labels_digest: str | None = None) -> Split:
    """One split from its two IDX files."""
    return as_split(read_idx(images, images_digest), read_idx(labels, labels_digest), images)


def complete_sets(roots: list[Path]) -> list[list[Path]]:
    """Every folder below the roots that holds all four files, as paths in the order of FILES.

    A file may also lie in a folder of its own name, as some mirrors unpack it.
    """
    found: dict[Path, dict[str, Path]] = {}
    for path, match in find_files(roots, FILE_NAME):
        own_folder = FILE_NAME.fullmatch(path.parent.name)
        home = path.parent.parent if own_folder else path.parent
        role = f"{match[1]}-{match[2]}-idx{match[3]}-ubyte"
        found.setdefault(home, {}).setdefault(role, path)
    return [[files[role] for role in FILES] for files in found.values() if all(role in files for role in FILES)]
