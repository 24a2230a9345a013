"""Where data sets are looked for: the given folder, `data/`, and what is attached to a Kaggle session."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from lop.utils.errors import MissingDataError

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


def find_files(roots: list[Path], pattern: re.Pattern) -> Iterator[tuple[Path, re.Match]]:
    """(path, match) of every file below the roots whose name matches the whole pattern."""
    for root in roots:
        for folder, _, files in walk(root):
            for name in files:
                if match := pattern.fullmatch(name):
                    yield folder / name, match


def missing(name: str, files: list[str], data_dir: str | os.PathLike | None) -> MissingDataError:
    """The one-line error for data that is nowhere: which command fetches it, and where files go by hand."""
    target = Path(data_dir) if data_dir is not None else DEFAULT_DATA_DIR
    command = f"python download_data.py {name}"
    if target != DEFAULT_DATA_DIR:
        command += f" --data-dir {target}"
    return MissingDataError(
        f"dataset {name} not found in {target} or {KAGGLE_INPUT}: run `{command}`, "
        f"or put {', '.join(files)} into {target / name}/",
        name,
    )
