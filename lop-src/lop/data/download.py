"""Fetching, verifying and converting whole data sets."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lop.data.archive import extract
from lop.data.cifar import CIFAR, find_cifar
from lop.data.fetch import RemoteFile, Report, fetch
from lop.data.imagenet32 import find_imagenet32, load_imagenet32_classes
from lop.data.locate import DEFAULT_DATA_DIR, search_roots
from lop.data.mnist import find_mnist
from lop.data.sources import load_images
from lop.data.tiny_imagenet import ARCHIVE, ARCHIVE_MD5, CACHE, find_cache, find_layout, load_tiny_imagenet
from lop.utils.errors import UserError, lookup


@dataclass(frozen=True)
class Download:
    """files: fetched into data_dir / folder. find: where the data is, or None. install: from the fetched files.

    size: megabytes to fetch. check: loads the installed data, verified.
    """

    description: str
    size: int
    folder: str
    files: tuple[RemoteFile, ...]
    find: Callable[[Path | None], Path | None]
    check: Callable[[Path], object]
    install: Callable[[list[Path], Path], None] = lambda files, data_dir: None


def _idx_files(mirrors: tuple[str, ...], digests: dict[str, str]) -> tuple[RemoteFile, ...]:
    names = {
        "train-images-idx3-ubyte.gz": "train_images",
        "train-labels-idx1-ubyte.gz": "train_labels",
        "t10k-images-idx3-ubyte.gz": "test_images",
        "t10k-labels-idx1-ubyte.gz": "test_labels",
    }
    return tuple(RemoteFile(n, tuple(m + n for m in mirrors), digests[key]) for n, key in names.items())


def _find_idx(name: str) -> Callable[[Path | None], Path | None]:
    def find(data_dir: Path | None) -> Path | None:
        files = find_mnist(name, data_dir)
        return files[0].parent if files else None

    return find


def _find_tiny(data_dir: Path | None) -> Path | None:
    roots = search_roots(data_dir)
    layout = None if (cache := find_cache(roots)) else find_layout(roots)
    return cache or (layout.root if layout else None)


def _install_folder(name: str) -> Callable[[list[Path], Path], None]:
    """The archive's folder `name`, put below data_dir."""

    def install(files: list[Path], data_dir: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".unpack.", dir=data_dir) as partial:
            extract(files[0], Path(partial))
            if not (Path(partial) / name).is_dir():
                raise UserError(f"{files[0]} does not hold the folder {name}: fetch it again")
            _put(Path(partial) / name, data_dir / name)
        files[0].unlink()

    return install


def _install_classes(files: list[Path], data_dir: Path) -> None:
    """Whatever folder of the archive holds the class files becomes data_dir / imagenet32 / classes."""
    with tempfile.TemporaryDirectory(prefix=".unpack.", dir=data_dir) as partial:
        try:
            extract(files[0], Path(partial))
        except UserError:
            files[0].unlink()  # no checksum was published: only now is it known to be bad
            raise
        found = next(Path(partial).rglob("0.npy"), None)
        if found is None:
            raise UserError(f"{files[0]} does not hold the file 0.npy: fetch it again")
        _put(found.parent, data_dir / "imagenet32" / "classes")
    files[0].unlink()


def _forget_cache(files: list[Path], data_dir: Path) -> None:
    """The images are decoded again when the data is checked."""
    shutil.rmtree(data_dir / CACHE, ignore_errors=True)


def _put(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _cifar(name: str, md5: str) -> Download:
    files = CIFAR[name]
    return Download(
        description=f"CIFAR-{name[5:]}, 60,000 images 3x32x32 (Krizhevsky 2009)",
        size=170,
        folder="",
        files=(RemoteFile(files.archive, (f"https://www.cs.toronto.edu/~kriz/{files.archive}",), md5),),
        find=lambda data_dir: find_cifar(name, data_dir),
        check=lambda data_dir: load_images(name, data_dir),
        install=_install_folder(files.folder),
    )


DOWNLOADS: dict[str, Download] = {
    "mnist": Download(
        description="MNIST, 70,000 images 1x28x28 (LeCun 1998)",
        size=12,
        folder="mnist",
        files=_idx_files(
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            {
                "train_images": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train_labels": "d53e105ee54ea40749a09fcbcd1e9432",
                "test_images": "9fb629c4189551a2d022fa330f9573f3",
                "test_labels": "ec29112dd5afa0611ce80d1b7f02629c",
            },
        ),
        find=_find_idx("mnist"),
        check=lambda data_dir: load_images("mnist", data_dir),
    ),
    "fashion_mnist": Download(
        description="Fashion-MNIST, 70,000 images 1x28x28 (Xiao 2017)",
        size=31,
        folder="fashion_mnist",
        files=_idx_files(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            {
                "train_images": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train_labels": "25c81989df183df01b3e8a0aad5dffbe",
                "test_images": "bef4ecab320f06d8554ea6380940ec79",
                "test_labels": "bb300cfdad3c16e7a12a480ee83cd310",
            },
        ),
        find=_find_idx("fashion_mnist"),
        check=lambda data_dir: load_images("fashion_mnist", data_dir),
    ),
    "cifar10": _cifar("cifar10", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": _cifar("cifar100", "eb9058c3a382ffc7106e4002c42a8d85"),
    "tiny_imagenet": Download(
        description="Tiny ImageNet, 110,000 images 3x64x64 of 200 classes (Le & Yang 2015)",
        size=248,
        folder="",
        files=(RemoteFile(ARCHIVE, (f"http://cs231n.stanford.edu/{ARCHIVE}",), ARCHIVE_MD5),),
        find=_find_tiny,
        check=lambda data_dir: load_tiny_imagenet(data_dir, True),
        install=_forget_cache,
    ),
    "imagenet32": Download(
        description="ImageNet-32, 700 images 3x32x32 of each of 1,000 classes (Dohare 2024)",
        size=2150,
        folder="",
        files=(
            RemoteFile(
                "imagenet32-classes.archive",
                (
                    "https://drive.usercontent.google.com/download"
                    "?id=1i0ok3LT5_mYmFWaN7wlkpHsitUngGJ8z&export=download&confirm=t",
                ),
                None,
            ),
        ),
        find=find_imagenet32,
        check=lambda data_dir: load_imagenet32_classes(data_dir, True),
        install=_install_classes,
    ),
}


def download(name: str, data_dir: Path | None = None, report: Callable[[str], Report] | None = None) -> Path:
    """Fetch a data set into data_dir (or `data/`), verify and convert it; what is there already is only verified.

    report(file name) gives a callback for progress. Returns where the data is. Raises UserError, one line, that says
    what failed and how to place the files by hand; then nothing half-written is in place.
    """
    data_set = lookup(DOWNLOADS, name, "dataset")
    target = Path(data_dir) if data_dir is not None else DEFAULT_DATA_DIR
    try:
        if not _is_good(data_set, data_dir, target):
            _fetch_all(data_set, target, report)
            data_set.check(target)
    except (OSError, UserError) as error:
        reason = error if isinstance(error, UserError) else f"{error.strerror}: {error.filename}"
        raise UserError(f"{name}: {reason}. By hand: {by_hand(name, target)}") from None
    return data_set.find(data_dir)


def _is_good(data_set: Download, data_dir: Path | None, target: Path) -> bool:
    """Whether the data is there. False for bad data below `target`, where it can be fetched again."""
    found = data_set.find(data_dir)
    if found is None:
        return False
    try:
        data_set.check(target)
    except UserError:
        if target.resolve() in found.resolve().parents:
            return False
        raise
    return True


def _fetch_all(data_set: Download, target: Path, report: Callable[[str], Report] | None) -> None:
    folder = target / data_set.folder
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        limit = 2_000_000 * data_set.size  # sizes are rounded
        files = [
            fetch(replace(f, limit=limit), folder, report(f.name) if report else lambda done, total: None)
            for f in data_set.files
        ]
        data_set.install(files, target)
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def by_hand(name: str, data_dir: Path) -> str:
    """How to do without the download, in one line."""
    data_set = DOWNLOADS[name]
    urls = " ".join(dict.fromkeys(f.urls[0] for f in data_set.files))
    renamed = "" if all(f.urls[0].endswith(f.name) for f in data_set.files) else f" as {data_set.files[0].name}"
    return f"fetch {urls} elsewhere, put it{renamed} into {data_dir / data_set.folder}/ and run this again"
