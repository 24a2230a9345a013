"""Files and servers that are damaged or hostile: one line that says what is wrong, in bounded memory and time."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import threading
import time
import tracemalloc
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from generated_data import tiny_imagenet_files
from PIL import Image

from lop.data import DATASETS, Found, archive, fetch, locate, safe_pickle
from lop.data.archive import extract
from lop.data.cifar import load_cifar
from lop.data.fetch import RemoteFile
from lop.data.idx import read_idx
from lop.data.image_folder import read_image_folder
from lop.data.images import as_split
from lop.data.npy import class_files, map_npy
from lop.data.safe_pickle import load_pickled_arrays
from lop.utils.errors import UserError

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


def refused(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


@contextlib.contextmanager
def little_memory(limit: int = 10_000_000):
    """What is attacked here asks for 30 MB at least."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


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


def _tar(path, *names, kind=tarfile.REGTYPE, size=1) -> None:
    with tarfile.open(path, "w") as target:
        for name in names:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = size if kind == tarfile.REGTYPE else 0
            target.addfile(info, io.BytesIO(bytes(info.size)))


def _zip(path, name="a", method=zipfile.ZIP_DEFLATED, content=bytes(10_000)) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as target:
        target.writestr(name, content)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("name", [".", "..", "./.", "../a", "/a", "C:/a", "a/../../b", "..\\a"])
@pytest.mark.parametrize("write", [_tar, _zip])
def test_names_that_leave_the_folder(name, write, tmp_path):
    write(tmp_path / "x", name)
    refused(extract, tmp_path / "x", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(kind, tmp_path):
    _tar(tmp_path / "x", "a", kind=kind)
    assert "link or device" in refused(extract, tmp_path / "x", tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_members_that_collide(names, tmp_path):
    _tar(tmp_path / "x", *names)
    refused(extract, tmp_path / "x", tmp_path / "out")


@pytest.mark.parametrize("how", ["encrypted", "method 97", "lzma damage", "bz2 damage", "deflate damage"])
def test_zip_members_that_cannot_be_read(how, tmp_path):
    methods = {"lzma damage": zipfile.ZIP_LZMA, "bz2 damage": zipfile.ZIP_BZIP2}
    content = _zip(tmp_path / "x", method=methods.get(how, zipfile.ZIP_DEFLATED), content=os.urandom(3000))
    central = content.index(b"PK\1\2")
    if how == "encrypted":
        content[6] |= 1
        content[central + 8] |= 1
    elif how == "method 97":
        content[8] = content[central + 10] = 97
    else:
        content[45:400] = b"\xff" * 355
    (tmp_path / "x").write_bytes(content)
    assert str(tmp_path / "x") in refused(extract, tmp_path / "x", tmp_path / "out")


@pytest.mark.parametrize("write", [_tar, _zip])
def test_an_archive_that_unpacks_to_far_more(write, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ALLOWANCE", 1000)
    monkeypatch.setattr(archive, "RATIO", 0)
    write(tmp_path / "x", "a", **({"size": 2000} if write is _tar else {}))
    assert "more than 1000 bytes" in refused(extract, tmp_path / "x", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("packed", [gzip.open, bz2.open, lzma.open, open])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_that_fills_the_memory(packed, kind, tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 30_000_000
    with packed(tmp_path / "x", "wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(30_000_000))
    with little_memory():
        assert "headers are too long" in refused(extract, tmp_path / "x", tmp_path / "out")


def test_many_long_tar_headers_together(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_HEADERS", 500_000)
    with tarfile.open(tmp_path / "x", "w:gz", format=tarfile.PAX_FORMAT) as target:
        for i in range(20):
            info = tarfile.TarInfo(str(i))
            info.pax_headers = {"comment": "x" * 50_000}
            target.addfile(info)
    assert "headers are too long" in refused(extract, tmp_path / "x", tmp_path / "out")
    monkeypatch.setattr(archive, "MAX_HEADERS", 5_000_000)
    extract(tmp_path / "x", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 20


def _tiny(tmp_path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytearray:
    path = tmp_path / "data" / "tiny-imagenet-200.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as target:
        for name, content in files.items():
            target.writestr(f"tiny-imagenet-200/{name}", content)
    return bytearray(path.read_bytes())


def _refused_tiny(tmp_path) -> str:
    return refused(DATASETS["tiny_imagenet"].load, tmp_path / "data", False)


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_texts_of_tiny_imagenet_have_a_limit(name, as_zip, tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.chdir(tmp_path)
    files = tiny_imagenet_files(classes=2, train=1, val=1) | {name: b" " * 50_000_000}
    if as_zip:
        _tiny(tmp_path, files, zipfile.ZIP_DEFLATED)
    else:
        for path, content in files.items():
            (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / path).write_bytes(content)
    del files
    with little_memory(40_000_000):
        assert f"{name} has more than" in _refused_tiny(tmp_path)


@pytest.mark.parametrize("how", ["encrypted", "method 97", "lzma damage", "bz2 damage", "deflate damage"])
@pytest.mark.parametrize("which", ["wnids.txt", "val/images/val_0.JPEG"])
def test_tiny_imagenet_members_that_cannot_be_read(how, which, tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.chdir(tmp_path)
    methods = {"lzma damage": zipfile.ZIP_LZMA, "bz2 damage": zipfile.ZIP_BZIP2}
    files = tiny_imagenet_files(classes=2, train=1, val=1)
    content = _tiny(tmp_path, files, methods.get(how, zipfile.ZIP_DEFLATED))
    name = f"tiny-imagenet-200/{which}".encode()
    local = content.index(name) - 30
    central = content.rindex(name) - 46
    if how == "encrypted":
        content[local + 6] |= 1
        content[central + 8] |= 1
    elif how == "method 97":
        content[local + 8] = content[central + 10] = 97
    else:
        start = local + 30 + len(name) + 4
        content[start : start + 5] = b"\xff" * 5
    (tmp_path / "data" / "tiny-imagenet-200.zip").write_bytes(content)
    assert f"tiny-imagenet-200.zip: {which} is " in _refused_tiny(tmp_path)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tiny-imagenet-200.zip"]


ANSWERS = {
    "length abc": (200, {"Content-Length": "abc"}, b"x"),
    "length negative": (200, {"Content-Length": "-5"}, b"x"),
    "length huge": (200, {"Content-Length": "9" * 15}, b"x"),
    "without end": (200, {}, bytes(5000)),
    "location unparsable": (302, {"Location": "http://[bad"}, b""),
    "location port": (302, {"Location": "http://127.0.0.1:port/"}, b""),
    "location file": (302, {"Location": "file:///etc/passwd"}, b""),
    "location loop": (302, {"Location": "/x"}, b""),
    "wrong offset": (206, {"Content-Range": "bytes 7-9/10", "Content-Length": "3"}, b"abc"),
    "no offset": (206, {"Content-Length": "3"}, b"abc"),
    "drip": (200, {"Content-Length": "500"}, b"", b"x"),
    "drip of headers": (None, {}, b"HTTP/1.0 200 OK\r\nX-Slow: ", b"x"),
    "continue for ever": (None, {}, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "drip of a chunk's length": (200, {"Transfer-Encoding": "chunked"}, b"1\r\nx\r\n", b"0"),
}
AT_LAST = {  # what makes the slow answers whole after all: without a limit of time the file would be taken
    "drip": b"x" * 500,
    "drip of headers": b"\r\n\r\nfile",
    "continue for ever": b"HTTP/1.0 200 OK\r\n\r\nfile",
    "drip of a chunk's length": b"\r\n\r\n",
}


@pytest.mark.parametrize("how", ANSWERS)
def test_servers(how, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    status, headers, body, *drip = ANSWERS[how]
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if "Transfer-Encoding" in headers else "HTTP/1.0"

        def do_GET(self):
            self.close_connection = True
            if status is not None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)
                if drip:
                    ends = time.monotonic() + 2
                    while time.monotonic() < ends and not over.wait(0.05):
                        self.wfile.write(drip[0])
                    self.wfile.write(AT_LAST[how])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        (tmp_path / ".x.part").write_bytes(b"ab")
        remote = RemoteFile("x", (f"http://127.0.0.1:{server.server_port}/x",), None, 500)
        try:
            message = refused(fetch.fetch, remote, tmp_path, lambda done, total: None)
        finally:
            over.set()
            server.shutdown()
            thread.join()
    assert not (tmp_path / "x").exists()
    assert ("bytes in 0.2 seconds" in message) == bool(drip)
