"""The 1,797 handwritten digits that scikit-learn ships (Alpaydin & Kaynak 1998): real data that is always there."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from lop.data.record import Found, Splits, dataset
from lop.utils.seeding import make_generator

TRAIN, ALL = 1437, 1797
SPLIT_SEED = 0  # the split is part of the data set: it is the same for every run


@dataset(
    "digits",
    description="scikit-learn's handwritten digits (Alpaydin & Kaynak 1998)",
    images=(TRAIN, ALL - TRAIN),
    classes=10,
    image_shape=(1, 8, 8),
    find_in=lambda record, roots: Path("scikit-learn"),
)
def load_digits(found: Found) -> Splits:
    """uint8 (N, 8, 8). The 17 grey levels v of the original become round(255 v / 16), so that every data set has the
    same range; round(16 u / 255) gives v back. Train and test are one fixed random split.
    """
    values, labels = _shipped()
    images = np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    order = torch.randperm(len(images), generator=make_generator(SPLIT_SEED, "digits split")).numpy()
    parts = {"train": order[:TRAIN], "test": order[TRAIN:]}
    return {split: (images[rows], labels[rows]) for split, rows in parts.items()}


@cache
def _shipped() -> tuple[np.ndarray, np.ndarray]:
    """Grey levels (N, 64) of 0 to 16 and labels (N,), from the file: to import scikit-learn would take two seconds."""
    package = find_spec("sklearn")
    file = Path(package.origin if package and package.origin else "").parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():  # another version's place
        from sklearn.datasets import load_digits as sklearn_digits

        return sklearn_digits(return_X_y=True)
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)
