"""Data sets by name or path."""

import contextlib
import os
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from lop.data.images import ImageData
from lop.data.own_images import load_own_images
from lop.data.record import DATASETS
from lop.utils.errors import UserError, lookup

_shared: ContextVar[dict | None] = ContextVar("shared images", default=None)


@contextlib.contextmanager
def sharing_images() -> Iterator[None]:
    """Inside, the same data set is loaded once: all who ask for it get the same tensors. Nothing outlives it."""
    token = _shared.set({} if _shared.get() is None else _shared.get())
    try:
        yield
    finally:
        _shared.reset(token)


def load_images(name_or_path: str, data_dir: str | os.PathLike | None = None, verify: bool = True) -> ImageData:
    """A data set by its name, or a user's own by the path of its folder.

    A named set is looked for in data_dir (or `data/`), in the Kaggle input folder, under any mount name, nested
    or not, and where the system's packages put it. verify: compare with the published checksums; images at a
    path have none, so that it must be false for them; `source` says so.
    Raises UserError, one line, for data that is missing, truncated, corrupt or of the wrong shape.
    """
    shared, key = _shared.get(), (name_or_path, data_dir, verify)
    if shared is not None and key in shared:
        return shared[key]
    data = _load(name_or_path, data_dir, verify)
    if shared is not None:
        shared[key] = data
    return data


def _load(name_or_path: str, data_dir: str | os.PathLike | None, verify: bool) -> ImageData:
    path = own_path(name_or_path, verify, DATASETS)
    if path is not None:
        data = load_own_images(path)
    else:
        data = lookup(DATASETS, name_or_path, "dataset").load(data_dir, verify)
    return data if verify else replace(data, source=f"{data.source} (checksums not compared)")


def own_path(name_or_path: str, verify: bool, names: Collection[str]) -> Path | None:
    """The path of a user's own data, or None when it is a name. Raises UserError when it cannot be used."""
    if not name_or_path:
        raise UserError(f"is empty: give a folder of images, or one of {', '.join(names)}", option="dataset")
    path = Path(name_or_path)
    if name_or_path in names or not (path.exists() or os.sep in name_or_path):
        return None
    if not path.exists():
        raise UserError(
            f"{name_or_path} does not exist: give a folder of images, or one of {', '.join(names)}", option="dataset"
        )
    if verify:
        raise UserError(f"must be false for your own images in {path}: no checksums were published", option="verify")
    return path
