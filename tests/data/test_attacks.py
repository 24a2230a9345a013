"""Files and servers that are damaged or hostile: one line that says what is wrong, in bounded memory and time."""

import codecs
import gzip
import os
import pickle
import struct

import numpy as np
import pytest
from attacking import little_memory, refused
from PIL import Image

from lop.data import DATASETS, Found, safe_pickle
from lop.data.archive import extract
from lop.data.cifar import load_cifar
from lop.data.idx import read_idx
from lop.data.image_folder import read_image_folder
from lop.data.images import as_split
from lop.data.npy import class_files, map_npy
from lop.data.safe_pickle import load_pickled_arrays

IDX = {
    "no header": b"\0\0\x08\x03",
    "half a header": b"\0\0\x08\x03" + bytes(7),
    "product overflows": b"\0\0\x08\x04" + struct.pack(">4I", 1 << 31, 1 << 31, 4, 1),
    "declares too much": b"\0\0\x08\x02" + struct.pack(">2I", 1 << 16, 1 << 16),
    "wrong magic": b"\0\0\x0d\x01" + bytes(8),
    "longer": b"\0\0\x08\x01" + struct.pack(">I", 2) + b"abc",
    "garbage after gzip": gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"ab") + b"garbage",
    "cut gzip": gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"ab")[:-4],
    "bomb": gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 2) + bytes(30_000_000)),
}


@pytest.mark.parametrize("how", IDX)
def test_idx(how, tmp_path):
    (tmp_path / "x").write_bytes(IDX[how])
    with little_memory():
        assert str(tmp_path / "x") in refused(read_idx, tmp_path / "x")


def npy(header: str, version: int = 1) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text + bytes(64)


def npy_of(shape: str, descr: str = "'|u1'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '|u1', 'shape': (("),
        npy_of(f"({10**30},)"),
        npy_of("(10**30,)"),
        npy_of("(True,)"),
        npy_of("(-1,)"),
        npy_of("(-8, -8)"),
        npy_of("(4294967296, 4294967296)"),
        npy_of("(63,)"),
        npy_of("(65,)"),
        npy_of("(8,)", "'|O'"),
        npy_of("(64,)", "'nonsense'"),
        npy_of("(64,)", "7"),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (64,)}", version=9),
        b"",
        b"PK\3\4",
    ],
)
def test_npy(content, tmp_path, recwarn):
    (tmp_path / "x.npy").write_bytes(content)
    assert "x.npy" in refused(map_npy, tmp_path / "x.npy")
    assert [str(warning.message) for warning in recwarn] == []  # one line, not two


def test_fortran_order_is_read_as_it_was_meant(tmp_path):
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "x.npy", np.asfortranarray(images))
    assert as_split(map_npy(tmp_path / "x.npy"), np.array([0, 1]), "x")[0][:, 0].tolist() == images.tolist()


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 2**40]),
        np.array([0, 2**64 - 1], np.uint64),
        np.array([0.0, 1.0]),
        np.array([0, -1]),
        np.array([0]),
        np.array([True, False]),
        np.array([0, 10**30]),
    ],
)
def test_labels(labels, tmp_path):
    refused(as_split, np.zeros((2, 4, 4), np.uint8), labels, "x")
    for name in DATASETS["cifar10"].files:
        content = {b"data": np.zeros((2, 3072), np.uint8), b"labels": labels if labels.dtype != object else [0, 10**30]}
        (tmp_path / name).write_bytes(pickle.dumps(content))
    refused(load_cifar, Found(DATASETS["cifar10"], tmp_path, verify=False))


def test_a_label_of_uint64_is_named_as_it_was(tmp_path):
    message = refused(as_split, np.zeros((1, 4, 4), np.uint8), np.array([2**64 - 1], np.uint64), "x")
    assert str(2**64 - 1) in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite(value, tmp_path):
    images = np.zeros((7, 3, 2, 2), np.float32)
    images[3, 1, 0, 1] = value
    np.save(tmp_path / "0.npy", images)
    assert "finite" in refused(class_files("x", tmp_path).load, 0)


@pytest.mark.parametrize("bad", [0, 3, 5])
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(30), None])
def test_a_bad_image_in_a_folder(bad, content, tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(6):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"a/{i}.png")
    path = tmp_path / f"a/{bad}.png"
    path.unlink()
    os.mkfifo(path) if content is None else path.write_bytes(content)
    assert str(path) in refused(read_image_folder, "x", tmp_path)


def test_an_image_of_far_too_many_pixels(tmp_path, recwarn):
    (tmp_path / "a").mkdir()
    for i in range(6):
        Image.new("1", (10_000, 10_000) if i == 3 else (4, 4)).save(tmp_path / f"a/{i}.png")
    with little_memory():
        assert "pixels" in refused(read_image_folder, "x", tmp_path)
    assert [str(warning.message) for warning in recwarn] == []


class Calls:
    """Is pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


TEXT = "x" * 2_000_000
RECONSTRUCT = np.zeros(1).__reduce__()[0]
PICKLES = {
    "array that is only declared": lambda: pickle.dumps({b"data": Calls(RECONSTRUCT, np.ndarray, (30_000_000,), b"b")}),
    "array made directly": lambda: pickle.dumps({b"data": Calls(np.ndarray, (30_000_000,), "u1")}),
    "one text many times": lambda: pickle.dumps(
        {b"data": [Calls(codecs.encode, TEXT, "latin1") for _ in range(20)]}, 2
    ),
    "memo": lambda: b"\x80\x02}r" + struct.pack("<I", 1 << 23) + b".",
    "bytes that are not there": lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 26) + b"abc.",
    "objects": lambda: pickle.dumps({b"data": np.array([None, 1])}),
    "structure": lambda: pickle.dumps({b"data": np.zeros(3, "u1,u1")}),
}


@pytest.mark.parametrize("how", PICKLES)
def test_pickles(how, tmp_path):
    (tmp_path / "x").write_bytes(PICKLES[how]())
    with little_memory(12_000_000):
        assert "x is truncated, corrupt or not a data file" in refused(load_pickled_arrays, tmp_path / "x")


def test_a_pickle_larger_than_any_data_file(tmp_path):
    with open(tmp_path / "x", "wb") as file:
        file.truncate(safe_pickle.MAX_BYTES + 1)
    with little_memory():
        assert "has more than" in refused(load_pickled_arrays, tmp_path / "x")


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "?"])
def test_arrays_of_numbers_are_read_as_pickle_reads_them(protocol, dtype, tmp_path):
    arrays = {"a": np.arange(24).reshape(2, 3, 4).astype(dtype), "f": np.asfortranarray(np.eye(3, 5).astype(dtype))}
    (tmp_path / "x").write_bytes(pickle.dumps(arrays, protocol))
    for name, found in load_pickled_arrays(tmp_path / "x").items():
        expected = arrays[name.decode() if isinstance(name, bytes) else name]
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("read", [read_idx, map_npy, load_pickled_arrays, lambda path: extract(path, path.parent)])
def test_only_regular_files_are_opened(read, kind, tmp_path):
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "x")
    assert "not a regular file" in refused(read, tmp_path / "x")
