"""A user's own images, named by a path."""

import numpy as np
import pytest
import torch
from generated_data import jpeg, write_cifar, write_class_files, write_idx

from lop.data.classes import load_classes
from lop.data.sources import load_images
from lop.utils.errors import UserError


def load(path):
    return load_images(str(path), verify=False)


def write_npy(folder, train: tuple[int, ...], test: tuple[int, ...], dtype=np.uint8):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, shape in (("train", train), ("test", test)):
        np.save(folder / f"{name}_images.npy", rng.integers(0, 256, shape).astype(dtype))
        np.save(folder / f"{name}_labels.npy", np.arange(shape[0]) % 3)


def write_images(folder, per_class: int, size: int = 9, mode: str = "RGB"):
    for i, label in enumerate(["cat", "dog"]):
        (folder / label).mkdir(parents=True)
        for j in range(per_class):
            shape = (size, size, 3) if mode == "RGB" else (size, size)
            (folder / label / f"{j:02}.png").write_bytes(jpeg(np.full(shape, 100 * i + j, np.uint8), "PNG"))


def test_verify_must_be_false(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(UserError, match=r"^verify must be false"):
        load_images(str(tmp_path))
    assert "checksums not compared" in load(tmp_path).source


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no images that are understood"):
        load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is not a folder"):
        load(tmp_path / "file")


def test_idx_and_cifar_files(tmp_path):
    arrays = write_idx(tmp_path / "idx", size=12)
    assert torch.equal(load(tmp_path / "idx").splits["train"][0][:, 0], torch.from_numpy(arrays[0]))
    rows, labels = write_cifar(tmp_path / "python", classes=10, train=5)["train"]
    data = load(tmp_path / "python")
    assert torch.equal(data.splits["train"][0].flatten(1), torch.from_numpy(rows))
    assert data.splits["train"][1].tolist() == labels


def test_class_files_in_memory_are_what_they_are_class_by_class(tmp_path):
    write_class_files(tmp_path / "classes", classes=3, images=140)
    data, classes = load(tmp_path), load_classes(str(tmp_path), verify=False)
    assert data.num_classes == 3
    for class_id in range(3):
        for split, images in classes.load(class_id).items():
            of_class, labels = data.splits[split]
            assert torch.equal(of_class[labels == class_id], images)


@pytest.mark.parametrize("shape", [(6, 6), (3, 6, 6), (1, 6, 6)])
def test_npy_files(shape, tmp_path):
    write_npy(tmp_path, (9, *shape), (4, *shape))
    data = load(tmp_path)
    expected = np.load(tmp_path / "train_images.npy").reshape(9, -1, 6, 6)
    assert torch.equal(data.splits["train"][0], torch.from_numpy(expected))
    assert data.num_classes == 3


def test_npy_files_with_channels_last(tmp_path):
    write_npy(tmp_path, (9, 6, 6, 3), (4, 6, 6, 3))
    expected = np.moveaxis(np.load(tmp_path / "test_images.npy"), 3, 1)
    assert torch.equal(load(tmp_path).splits["test"][0], torch.from_numpy(np.ascontiguousarray(expected)))


@pytest.mark.parametrize(
    ("train", "test", "dtype", "words"),
    [
        ((9, 6), (4, 6), np.uint8, "images must be uint8"),
        ((9, 6, 6), (4, 6, 6), np.float32, "images must be uint8"),
        ((9, 2, 6, 6), (4, 2, 6, 6), np.uint8, "1 or 3 channels"),
        ((9, 6, 6), (4, 7, 7), np.uint8, "must have one shape"),
        ((0, 6, 6), (4, 6, 6), np.uint8, "at least one"),
    ],
)
def test_wrongly_shaped_npy_files_are_refused(train, test, dtype, words, tmp_path):
    write_npy(tmp_path, train, test, dtype)
    with pytest.raises(UserError, match=words):
        load(tmp_path)


def test_damaged_and_pickled_npy_files_are_refused(tmp_path):
    write_npy(tmp_path, (9, 6, 6), (4, 6, 6))
    path = tmp_path / "test_labels.npy"
    content = path.read_bytes()
    for bad in (content[:-3], b"nonsense", b""):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"test_labels.npy is truncated, corrupt"):
            load(tmp_path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"test_labels.npy"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"test_labels.npy is missing"):
        load(tmp_path)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_image_folder_with_its_own_test_images(mode, tmp_path):
    write_images(tmp_path / "train", 3, mode=mode)
    write_images(tmp_path / "val", 2, mode=mode)
    data = load(tmp_path)
    assert data.image_shape == ((3 if mode == "RGB" else 1), 9, 9)
    images, labels = data.splits["train"]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(data.splits["test"][0]) == 4


def test_a_plain_image_folder_gives_every_sixth_image_to_the_test(tmp_path):
    write_images(tmp_path, 7)
    data = load(tmp_path)
    assert data.splits["test"][0][:, 0, 0, 0].tolist() == [5, 105]
    assert data.splits["test"][1].tolist() == [0, 1]
    assert len(data.splits["train"][0]) == 12


def test_bad_image_folders_are_refused(tmp_path):
    write_images(tmp_path / "a", 7)
    (tmp_path / "a/cat/03.png").write_bytes(jpeg(np.zeros((5, 9, 3), np.uint8), "PNG"))
    with pytest.raises(UserError, match=r"cat/03.png is .* give all one size"):
        load(tmp_path / "a")
    (tmp_path / "a/cat/03.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(UserError, match=r"cat/03.png is truncated, corrupt"):
        load(tmp_path / "a")
    write_images(tmp_path / "b/train", 2)
    write_images(tmp_path / "b/test", 2)
    (tmp_path / "b/test/cat").rename(tmp_path / "b/test/cow")
    with pytest.raises(UserError, match="cow"):
        load(tmp_path / "b")


def test_class_files_stay_on_disk(tmp_path):
    write_class_files(tmp_path, classes=3, images=14)
    classes = load_classes(str(tmp_path), verify=False)
    images = classes.load(2)
    assert images["train"][:, 0, 0, 0].tolist() == list(range(20, 32))
    assert images["test"][:, 0, 0, 0].tolist() == [32, 33]
    np.save(tmp_path / "1.npy", np.zeros((14, 3, 16, 16), np.uint8))
    with pytest.raises(UserError, match=r"1.npy: needs uint8"):
        classes.load(1)
    np.save(tmp_path / "1.npy", np.full((14, 3, 32, 32), -0.5))
    assert classes.load(1)["train"].dtype == torch.float32


def test_any_data_set_class_by_class():
    classes, data = load_classes("digits"), load_images("digits")
    images, labels = data.splits["train"]
    assert torch.equal(classes.load(7)["train"], images[labels == 7])
    assert classes.image_shape == (1, 8, 8)
