import zipfile

import pytest
from generated_data import jpeg, tiny_imagenet_files, write_tiny_imagenet

from lop.data import locate
from lop.data.sources import load_images
from lop.data.tiny_imagenet import CACHE
from lop.utils.errors import UserError

SIZES = {"classes": 4, "train": 3, "val": 2}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(locate, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.chdir(tmp_path)


def load(**options):
    return load_images("tiny_imagenet", **{"verify": False, **options})


@pytest.mark.parametrize("as_zip", [True, False])
def test_images_are_sorted_by_class_and_labelled_right(as_zip, tmp_path):
    write_tiny_imagenet(tmp_path / "kaggle/mount", as_zip, **SIZES)
    data = load()
    for split, per_class in (("train", 3), ("test", 2)):
        images, labels = data.splits[split]
        assert images.shape == (4 * per_class, 3, 64, 64)
        assert labels.tolist() == [c for c in range(4) for _ in range(per_class)]
        # class i's images are near the grey level 10 i + 3.5
        assert images.float().mean((1, 2, 3)).sub(10 * labels + 3.5).abs().max() < 2
    assert (tmp_path / "data" / CACHE).is_dir()


def test_the_cache_serves_without_the_archive(tmp_path):
    write_tiny_imagenet(tmp_path / "data", **SIZES)
    first = load().splits["test"][0].clone()
    (tmp_path / "data/tiny-imagenet-200.zip").unlink()
    assert (load().splits["test"][0] == first).all()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [CACHE]


def test_a_truncated_cache_is_refused(tmp_path):
    write_tiny_imagenet(tmp_path / "data", **SIZES)
    load()
    path = tmp_path / "data" / CACHE / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"train_images.npy is truncated"):
        load()


def _rezip(tmp_path, change) -> None:
    files = tiny_imagenet_files(**SIZES)
    change(files)
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data/tiny-imagenet-200.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)


def first(files: dict, folder: str) -> str:
    return next(name for name in files if name.startswith(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop("wnids.txt"), "wnids.txt is missing"),
        (lambda f: f.pop("val/val_annotations.txt"), "val_annotations.txt is missing"),
        (lambda f: f.update({"val/val_annotations.txt": b"val_0.JPEG only"}), "line 1 is malformed"),
        (lambda f: f.update({first(f, "train"): b"no image"}), "is truncated, corrupt or no image"),
        (lambda f: f.update({first(f, "train"): f[first(f, "train")][:300]}), "is truncated, corrupt or no image"),
        (lambda f: f.pop(first(f, "val/images")), "is missing or corrupt"),
        (lambda f: f.update({first(f, "val/images"): _small()}), "give all one size"),
    ],
)
def test_damaged_archives_are_refused_and_leave_nothing(change, words, tmp_path):
    _rezip(tmp_path, change)
    with pytest.raises(UserError, match=words) as error:
        load()
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tiny-imagenet-200.zip"]


def _small() -> bytes:
    import numpy as np

    return jpeg(np.zeros((32, 32, 3), np.uint8))


def test_a_truncated_zip_and_a_wrong_checksum(tmp_path):
    write_tiny_imagenet(tmp_path / "data", **SIZES)
    with pytest.raises(UserError, match="MD5"):
        load(verify=True)
    path = tmp_path / "data/tiny-imagenet-200.zip"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="no zip file"):
        load()


def test_unpacked_folder_needs_all_classes_when_verified(tmp_path):
    write_tiny_imagenet(tmp_path / "data", as_zip=False, **SIZES)
    with pytest.raises(UserError, match="4 classes instead of 200"):
        load(verify=True)
