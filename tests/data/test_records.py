"""The records against everything that repeats what they say."""

import json
from pathlib import Path

import plugged
import pytest
import torch
import torchvision.datasets as published

import lop
from lop.data import DATASETS
from lop.data.record import as_table, normalisation

ROOT = Path(__file__).parents[2]


def test_the_readme_has_the_records_table():
    assert as_table() in (ROOT / "lop-src/lop/data/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "theirs"), [("mnist", published.MNIST), ("fashion_mnist", published.FashionMNIST)])
def test_torchvision_fetches_the_same_idx_files(name, theirs):
    assert [(file.name, file.md5) for file in DATASETS[name].downloads] == theirs.resources
    assert DATASETS[name].classes == len(theirs.classes)


@pytest.mark.parametrize(("name", "theirs"), [("cifar10", published.CIFAR10), ("cifar100", published.CIFAR100)])
def test_torchvision_fetches_the_same_cifar_files(name, theirs):
    record = DATASETS[name]
    assert dict(record.files) == dict(theirs.train_list + theirs.test_list)
    (archive,) = record.downloads
    assert (archive.name, archive.md5, archive.urls) == (theirs.filename, theirs.tgz_md5, (theirs.url,))
    assert theirs.base_folder in record.by_hand


@pytest.mark.parametrize("name", DATASETS)
def test_a_record_is_whole(name):
    record = DATASETS[name]
    assert record.name == name
    assert len(record.mean) == len(record.std)
    assert len(record.mean) in (1, record.image_shape[0])
    assert all(0 <= value <= 1 for value in (*record.mean, *record.std))
    ours = name not in plugged.names
    assert all(size % record.classes == 0 for size in record.images) or name in ("mnist", "digits") or not ours
    assert (record.size > 1e6) == bool(record.downloads) or not ours
    assert all(len(md5) == 32 for md5 in record.files.values() if md5)


@pytest.mark.parametrize("name", ["digits", *sorted(plugged.names & set(DATASETS))])
def test_what_is_there_is_as_the_record_says(name):
    """A plugin's data set lies where a run would find it."""
    record = DATASETS[name]
    data, again = record.load(), record.load()
    assert data.image_shape == record.image_shape
    for split, size in zip(("train", "test"), record.images, strict=True):
        images, labels = data.splits[split]
        assert (images.dtype, len(images), len(labels)) == (torch.uint8, size, size)
        assert set(labels.tolist()) <= set(range(record.classes))
    assert data.fingerprint == again.fingerprint


def test_configs_normalise_as_a_record_says():
    """Written out in the files, so that a config is read without the package; the values are the records'."""
    known = [(list(record.mean), list(record.std)) for record in DATASETS.values()]
    sections = [json.loads(path.read_text())["benchmark"] for path in (ROOT / "lop-src/lop").glob("*/cfg/**/*.json")]
    given = [(section["mean"], section["std"]) for section in sections if section.get("mean")]
    assert len(given) > 20
    assert all(values in known for values in given)


def test_whose_normalisation_is_used():
    cifar100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    assert normalisation("cifar100", "imagenet32", 3) == cifar100
    assert normalisation("/a/folder", "cifar100", 3) == cifar100
    assert normalisation("/a/folder", "cifar100", 1) == ((0.5,), (0.5,))


def test_the_door():
    assert lop.dataset is __import__("lop.data").data.dataset
    assert {"dataset", "RemoteFile"} <= set(dir(lop))
