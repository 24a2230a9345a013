"""Where data sets are looked for: the given folder, `data/`, and what is attached to a Kaggle session."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lop.utils.errors import MissingDataError, UserError

DEFAULT_DATA_DIR = Path("data")
KAGGLE_INPUT = Path("/kaggle/input")
MAX_DEPTH = 6
# folders that hold thousands of single images: never walked through when a few large files are looked for
_IMAGE_FOLDER = re.compile(r"^(n\d{8}|images|\..*)$")


def search_roots(data_dir: str | os.PathLike | None, extra: tuple[Path, ...] = ()) -> list[Path]:
    """Existing folders to search, in this order: data_dir (or `data/`), the Kaggle input folder, `extra`."""
    roots = [Path(data_dir)] if data_dir is not None else []
    roots += [DEFAULT_DATA_DIR, KAGGLE_INPUT, *extra]
    return [root for root in dict.fromkeys(roots) if root.is_dir()]


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(folder, subfolders, files) below `root`, sorted, top down, at most MAX_DEPTH levels, links followed."""
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        yield here, sorted(subfolders), sorted(files)
        deep = len(here.relative_to(root).parts) >= MAX_DEPTH
        subfolders[:] = [] if deep else sorted(name for name in subfolders if not _IMAGE_FOLDER.match(name))


def folders_with(roots: list[Path], names: Collection[str]) -> list[Path]:
    """The folders below the roots that hold all these files."""
    wanted = set(names)
    return [folder for root in roots for folder, _, files in walk(root) if wanted and wanted <= set(files)]


class Named(Protocol):
    """What `best_folder` sees of a data set's record."""

    @property
    def name(self) -> str: ...

    @property
    def files(self) -> Mapping[str, str | None]: ...

    @property
    def words(self) -> tuple[str, ...]: ...

    @property
    def common_names(self) -> bool: ...


def best_folder(
    record: Named,
    marks: dict[Path, Path],
    digest: Callable[[Path], str],
    namesakes: Sequence[Named] = (),
) -> Path | None:
    """The folder that holds a data set, of several with its files. marks: in each, the record's last file.

    Identity by the content of that file comes first, then what the path says, then the order of the search. A folder
    known to hold another data set is out. namesakes: data sets with files of the same names. digest: MD5 of a
    file's content.
    """
    ranks = [_rank(record, folder, mark, digest, namesakes) for folder, mark in marks.items()]
    ranked = [(rank, i) for i, rank in enumerate(ranks) if rank is not None]
    return list(marks)[min(ranked)[1]] if ranked else None


def _rank(
    record: Named, folder: Path, mark: Path, digest: Callable[[Path], str], namesakes: Sequence[Named]
) -> int | None:
    try:
        found = digest(mark)
    except UserError:
        found = None
    if found is not None:
        for other in (record, *namesakes):
            if list(other.files.values())[-1] == found:
                return 0 if other is record else None
    path = str(folder.resolve()).lower()
    says = [other for other in (record, *namesakes) if any(word in path for word in other.words)]
    if record in says or not (says or record.words):
        return 1
    return None if record.common_names else 2


def missing(name: str, needed: str, data_dir: str | os.PathLike | None, plugin: str | None = None) -> MissingDataError:
    """The one-line error for data that is nowhere: which command fetches it, and where files go by hand."""
    target = Path(data_dir) if data_dir is not None else DEFAULT_DATA_DIR
    command = f"python download_data.py {name}"
    if target != DEFAULT_DATA_DIR:
        command += f" --data-dir {target}"
    if plugin is not None:
        command += f" --plugin {plugin}"
    return MissingDataError(
        f"dataset {name} not found: run `{command}`, or put {needed} into {target / name}/ "
        f"(it is neither there nor in {KAGGLE_INPUT})",
        name,
    )


@contextlib.contextmanager
def unpacking(data_dir: Path) -> Iterator[Path]:
    """A folder below data_dir that is gone afterwards: what is whole is moved out of it."""
    with tempfile.TemporaryDirectory(prefix=".unpack.", dir=data_dir) as partial:
        yield Path(partial)


def put(source: Path, target: Path) -> None:
    """Move a folder to where another may be."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
