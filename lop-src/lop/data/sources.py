"""Data sets by name."""

import os
from collections.abc import Callable
from functools import partial

from lop.data.digits import load_digits
from lop.data.images import ImageData
from lop.data.mnist import load_mnist
from lop.utils.errors import lookup

# name -> loader(data_dir, verify)
SOURCES: dict[str, Callable[[str | os.PathLike | None, bool], ImageData]] = {
    "digits": lambda data_dir, verify: load_digits(),
    "mnist": partial(load_mnist, "mnist"),
    "fashion_mnist": partial(load_mnist, "fashion_mnist"),
}


def load_images(name: str, data_dir: str | os.PathLike | None = None, verify: bool = True) -> ImageData:
    """A data set by its name.

    A named set is looked for in data_dir (or `data/`), in the Kaggle input folder, under any mount name, nested
    or not, and where the system's packages put it. verify: compare with the published checksums.
    Raises UserError, one line, for data that is missing, truncated, corrupt or of the wrong shape.
    """
    return lookup(SOURCES, name, "dataset")(data_dir, verify)
