"""The 1,797 handwritten digits that scikit-learn ships (Alpaydin & Kaynak 1998): real data that is always there."""

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
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    order = torch.randperm(len(images), generator=make_generator(SPLIT_SEED, "digits split")).numpy()
    parts = {"train": order[:TRAIN], "test": order[TRAIN:]}
    return {split: (images[rows], digits.target[rows]) for split, rows in parts.items()}
