"""Small random data sets in the real on-disk formats."""

import gzip
import pickle
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

IDX_NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, train: int = 60, test: int = 20, gz: bool = True, size: int = 28, seed: int = 0) -> list:
    """Returns the four arrays."""
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (train, test):
        arrays += [rng.integers(0, 256, (count, size, size), np.uint8), (np.arange(count) % 10).astype(np.uint8)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        data = idx_bytes(array)
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(data) if gz else data)
    return arrays


def write_emnist(folder: Path) -> None:
    """EMNIST's balanced split, two training images and one test image per class."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    for split, count in (("train", 94), ("test", 47)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), (np.arange(count) % 47).astype(np.uint8)
        (folder / f"emnist-balanced-{split}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"emnist-balanced-{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


def write_cifar(folder: Path, classes: int = 100, train: int = 6, test: int = 2, protocol: int = 2) -> dict:
    """CIFAR python files with so many images per class; returns {split: (rows uint8 (N, 3072), labels)}."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        labels = rng.permutation(np.repeat(np.arange(classes), count)).tolist()
        arrays[split] = rng.integers(0, 256, (len(labels), 3072), np.uint8), labels
    if classes == 100:
        for split, (rows, labels) in arrays.items():
            _pickle(folder / split, {b"data": rows, b"fine_labels": labels, b"coarse_labels": labels}, protocol)
    else:
        rows, labels = arrays["train"]
        for i in range(5):
            part = slice(i, None, 5)
            _pickle(folder / f"data_batch_{i + 1}", {b"data": rows[part], b"labels": labels[part]}, protocol)
        order = [j for i in range(5) for j in range(i, len(labels), 5)]
        arrays["train"] = rows[order], [labels[j] for j in order]
        rows, labels = arrays["test"]
        _pickle(folder / "test_batch", {b"data": rows, b"labels": labels}, protocol)
    return arrays


def _pickle(path: Path, value: dict, protocol: int) -> None:
    path.write_bytes(pickle.dumps(value, protocol=protocol))


def jpeg(image: np.ndarray, form: str = "JPEG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def tiny_imagenet_files(classes: int = 20, train: int = 12, val: int = 4, size: int = 64) -> dict[str, bytes]:
    """{path in the zip: content}; class i's images are near the grey level 10 * i."""
    rng = np.random.default_rng(2)
    wnids = [f"n{i:08d}" for i in rng.permutation(classes)]
    files = {"wnids.txt": "\n".join(wnids).encode()}
    lines, number = [], 0

    def image(level: int) -> bytes:
        return jpeg((10 * level + rng.integers(0, 8, (size, size, 3))).astype(np.uint8))

    for i, wnid in enumerate(wnids):
        for j in range(train):
            files[f"train/{wnid}/images/{wnid}_{j}.JPEG"] = image(i)
        for _ in range(val):
            files[f"val/images/val_{number}.JPEG"] = image(i)
            lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62")
            number += 1
    files["val/val_annotations.txt"] = "\n".join(lines).encode()
    return files


def write_tiny_imagenet(folder: Path, as_zip: bool = True, **sizes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = tiny_imagenet_files(**sizes)
    if as_zip:
        with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"tiny-imagenet-200/{name}", content)
        return
    for name, content in files.items():
        path = folder / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_class_files(folder: Path, classes: int = 10, images: int = 14, size: int = 32) -> None:
    """`classes/<id>.npy`; all pixels of image j of class i are 10 * i + j."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(classes):
        values = (10 * i + np.arange(images)).astype(np.uint8)
        np.save(folder / f"{i}.npy", np.broadcast_to(values[:, None, None, None], (images, 3, size, size)))


def write_data(folder: Path) -> Path:
    """Every data set that a benchmark reads, tiny, in the published formats."""
    write_idx(folder / "mnist")
    write_emnist(folder / "EMNIST/raw")
    write_cifar(folder / "cifar-100-python")
    write_cifar(folder / "cifar-10-batches-py", classes=10, train=10)
    write_class_files(folder / "imagenet32" / "classes")
    write_tiny_imagenet(folder, classes=8, train=6, val=2)
    return folder
