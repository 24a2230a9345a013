"""Data sets by name: where they are found, what is refused."""

import gzip
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_data import IDX_NAMES, idx_bytes, write_cifar, write_class_files, write_idx

from lop.data import DATASETS, locate
from lop.data.digits import _shipped
from lop.data.sources import load_images
from lop.utils.errors import MissingDataError, UserError


@pytest.fixture(autouse=True)
def _nothing_else_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(locate, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setitem(DATASETS, "fashion_mnist", replace(DATASETS["fashion_mnist"], system_folders=()))
    monkeypatch.chdir(tmp_path)


def refused(*words: str, name: str = "mnist", **options) -> None:
    with pytest.raises(UserError) as error:
        load_images(name, **options)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_digits_are_scikit_learns_and_reversible():
    from sklearn.datasets import load_digits

    data = load_images("digits")
    (train, train_labels), (test, test_labels) = data.splits["train"], data.splits["test"]
    assert train.shape == (1437, 1, 8, 8)
    assert test.shape == (360, 1, 8, 8)
    assert data.num_classes == 10
    digits = load_digits()
    levels = torch.cat((train, test)).flatten(1).double().mul(16 / 255).round()
    labels = torch.cat((train_labels, test_labels))
    pairs = sorted((*row, label) for row, label in zip(levels.tolist(), labels.tolist(), strict=True))
    assert pairs == sorted(
        (*row, label) for row, label in zip(digits.data.tolist(), digits.target.tolist(), strict=True)
    )
    assert torch.equal(load_images("digits").splits["test"][0], test)


@pytest.mark.parametrize("by", ["the file", "the package"])
def test_digits_are_the_same_from_the_file_and_from_the_package(by, monkeypatch):
    expected = load_images("digits").splits["train"]
    _shipped.cache_clear()
    if by == "the file":
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # an import of it raises
    else:
        monkeypatch.setattr("lop.data.digits.find_spec", lambda name: None)
    assert all(torch.equal(a, b) for a, b in zip(load_images("digits").splits["train"], expected, strict=True))


@pytest.mark.parametrize("folder", ["data", "data/mnist", "kaggle/some-mount", "kaggle/datasets/owner/name/deep/raw"])
@pytest.mark.parametrize("gz", [True, False])
def test_idx_files_are_found_wherever_they_lie(folder, gz, tmp_path):
    arrays = write_idx(tmp_path / folder, gz=gz)
    data = load_images("mnist", verify=False)
    for split, i in (("train", 0), ("test", 2)):
        assert torch.equal(data.splits[split][0], torch.from_numpy(arrays[i][:, None]))
        assert torch.equal(data.splits[split][1], torch.from_numpy(arrays[i + 1].astype(np.int64)))
    assert data.image_shape == (1, 28, 28)


def test_idx_files_in_folders_of_their_own_name(tmp_path):
    arrays = write_idx(tmp_path / "flat", gz=False)
    for name in IDX_NAMES:
        (tmp_path / "kaggle/mount" / name).mkdir(parents=True)
        dotted = name.replace("-idx", ".idx")
        (tmp_path / "flat" / name).rename(tmp_path / "kaggle/mount" / name / dotted)
    assert torch.equal(load_images("mnist", verify=False).splits["train"][0][:, 0], torch.from_numpy(arrays[0]))


def test_the_given_folder_comes_first(tmp_path):
    write_idx(tmp_path / "data", seed=1)
    mine = write_idx(tmp_path / "mine", seed=2)
    assert torch.equal(load_images("mnist", "mine", False).splits["test"][0][:, 0], torch.from_numpy(mine[2]))


def test_the_two_sets_of_equal_file_names_are_told_apart(tmp_path, monkeypatch):
    fashion = write_idx(tmp_path / "data/a", seed=1)
    digits = write_idx(tmp_path / "data/b", test=30, seed=2)
    contents = {"fashion_mnist": fashion, "mnist": digits}
    for name, arrays in contents.items():
        digests = [hashlib.md5(idx_bytes(array)).hexdigest() for array in arrays]
        files = dict(zip(DATASETS[name].files, digests, strict=True))
        images = (len(arrays[0]), len(arrays[2]))
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=files, images=images))
    for name, arrays in contents.items():
        for verify in (True, False):
            assert torch.equal(load_images(name, verify=verify).splits["train"][0][:, 0], torch.from_numpy(arrays[0]))
    for file in (tmp_path / "data/b").iterdir():
        file.unlink()
    refused("python download_data.py mnist")


def test_missing_files_say_where_they_go_and_which_command_fetches_them():
    refused("python download_data.py mnist", *(f"{name}.gz" for name in IDX_NAMES), "data/mnist/")
    refused("python download_data.py mnist --data-dir else", "else/mnist/", data_dir="else")
    refused("python download_data.py cifar100", "cifar-100-python", name="cifar100")
    refused("python download_data.py tiny_imagenet", "tiny-imagenet-200.zip", name="tiny_imagenet")
    refused("python download_data.py imagenet32", "classes/", name="imagenet32")
    refused("did you mean 'mnist'", name="mnits")


def test_wrong_checksums_are_refused(tmp_path):
    write_idx(tmp_path / "data/mnist")
    refused("data/mnist/train-images-idx3-ubyte.gz", "MD5", "verify to false")
    write_cifar(tmp_path / "data/cifar-100-python")
    refused("cifar-100-python/train", "MD5", "verify to false", name="cifar100")


def _damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "corrupt":
        path.write_bytes(b"\x07" * len(content))
    elif how == "gzip body":
        path.write_bytes(content[:40] + b"\x00" * (len(content) - 48) + content[-8:])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "longer":
        path.write_bytes(gzip.compress(gzip.decompress(content) + b"x"))
    elif how == "short content":
        path.write_bytes(gzip.compress(gzip.decompress(content)[:-5]))
    elif how == "huge header":
        path.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + b"abc"))


@pytest.mark.parametrize(
    "how", ["truncated", "corrupt", "gzip body", "empty", "longer", "short content", "huge header"]
)
@pytest.mark.parametrize("which", [0, 3])
def test_damaged_idx_files_are_refused(how, which, tmp_path):
    write_idx(tmp_path / "data/mnist")
    path = tmp_path / "data/mnist" / f"{IDX_NAMES[which]}.gz"
    _damage(path, how)
    refused(str(path.relative_to(tmp_path)), "fetch it again", verify=False)


def test_wrongly_shaped_idx_files_are_refused(tmp_path):
    write_idx(tmp_path / "data/mnist")
    labels = np.zeros((59,), np.uint8)
    (tmp_path / "data/mnist" / f"{IDX_NAMES[1]}.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    refused("60 images but 59 labels", verify=False)
    (tmp_path / "data/mnist" / f"{IDX_NAMES[1]}.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((60, 2), np.uint8))))
    refused("labels must be", verify=False)


@pytest.mark.parametrize(("name", "classes", "folder"), [("cifar10", 10, "x/CIFAR/y"), ("cifar100", 100, "cifar100")])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cifar_files_of_every_pickle_protocol(name, classes, folder, protocol, tmp_path):
    arrays = write_cifar(tmp_path / "kaggle" / folder, classes, train=5, protocol=protocol)
    data = load_images(name, verify=False)
    for split, (rows, labels) in arrays.items():
        # a row is the red, the green and the blue map, each row by row
        assert torch.equal(data.splits[split][0].flatten(1), torch.from_numpy(rows))
        assert data.splits[split][1].tolist() == labels
    assert data.num_classes == classes


def test_pickles_that_run_code_are_refused(tmp_path):
    import os
    import pickle

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    write_cifar(tmp_path / "data/cifar-100-python")
    (tmp_path / "data/cifar-100-python/train").write_bytes(pickle.dumps({b"data": Attack()}))
    refused("cifar-100-python/train", "system", name="cifar100", verify=False)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("how", ["truncated", "corrupt", "empty"])
def test_damaged_cifar_files_are_refused(how, tmp_path):
    write_cifar(tmp_path / "data/cifar-100-python")
    _damage(tmp_path / "data/cifar-100-python/test", how)
    refused("cifar-100-python/test", "fetch it again", name="cifar100", verify=False)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"labels": [1]},
        {b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8)},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": ["a", "b"]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1, 2]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]},
    ],
)
def test_wrongly_shaped_cifar_files_are_refused(content, tmp_path):
    import pickle

    write_cifar(tmp_path / "data/cifar-100-python")
    (tmp_path / "data/cifar-100-python/train").write_bytes(pickle.dumps(content))
    refused("cifar-100-python", name="cifar100", verify=False)


def test_imagenet32_class_files(tmp_path):
    write_class_files(tmp_path / "kaggle/mount/imagenet/classes", classes=3)
    data = load_images("imagenet32", verify=False)
    assert data.splits["train"][0].shape == (36, 3, 32, 32)
    assert data.splits["test"][0][:, 0, 0, 0].tolist() == [12, 13, 22, 23, 32, 33]
    assert data.splits["test"][1].tolist() == [0, 0, 1, 1, 2, 2]
    refused("3 classes", "1000", name="imagenet32")
    (tmp_path / "kaggle/mount/imagenet/classes/1.npy").unlink()
    refused("1.npy is missing", name="imagenet32", verify=False)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet", "imagenet32"])
def test_missing_data_is_an_error_of_its_own_that_knows_the_data_set(name):
    with pytest.raises(MissingDataError) as error:
        load_images(name)
    assert error.value.dataset == name
