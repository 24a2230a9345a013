"""The 1,797 handwritten digits that scikit-learn ships (Alpaydin & Kaynak 1998): real data that is always there."""

import numpy as np
import torch

from lop.data.images import ImageData, as_split, image_data
from lop.utils.seeding import make_generator

TRAIN = 1437
SPLIT_SEED = 0  # the split is part of the data set: it is the same for every run


def load_digits() -> ImageData:
    """1,437 + 360 images, uint8 (1, 8, 8), 10 classes.

    The 17 grey levels v of the original become round(255 v / 16), so that every data set has the same range;
    round(16 u / 255) gives v back. Train and test are one fixed random split.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    order = torch.randperm(len(images), generator=make_generator(SPLIT_SEED, "digits split")).numpy()
    train, test = (as_split(images[rows], digits.target[rows], "digits") for rows in (order[:TRAIN], order[TRAIN:]))
    return image_data("digits", train, test, "scikit-learn")
