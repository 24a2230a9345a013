"""What tells one data set from another."""

import numpy as np
import torch

from lop.data.images import image_data
from lop.data.npy import class_files


def data_set(change=None, side=8):
    generator = torch.Generator().manual_seed(0)
    train, test = (
        (torch.randint(256, (n, 1, side, side), generator=generator).byte(), torch.arange(n) % 3) for n in (30, 9)
    )
    if change is not None:
        change(train, test)
    return image_data("own", train, test, "somewhere")


def test_one_pixel_one_label_or_two_images_exchanged_change_it():
    def pixel(train, test):
        train[0][29, 0, 3, 3] += 1

    def label(train, test):
        test[1][4] = 1 - test[1][4].clamp(max=1)

    def exchanged(train, test):
        train[0][[1, 2]] = train[0][[2, 1]]

    def turned(train, test):
        train[0][:] = train[0].flip(-1)

    for side in (8, 5):  # rows of whole 8-byte words, and others
        prints = [data_set(change, side).fingerprint for change in (None, pixel, label, exchanged, turned)]
        assert len(set(prints)) == 5
        assert data_set(side=side).fingerprint == prints[0]


def test_class_files(tmp_path):
    for name in ("0", "1"):
        np.save(tmp_path / f"{name}.npy", np.zeros((14, 3, 4, 4), np.uint8))
    first = class_files("own", tmp_path).fingerprint
    assert class_files("own", tmp_path).fingerprint == first
    images = np.zeros((14, 3, 4, 4), np.uint8)
    images[13, 2, 3, 3] = 1
    np.save(tmp_path / "1.npy", images)
    assert class_files("own", tmp_path).fingerprint != first
