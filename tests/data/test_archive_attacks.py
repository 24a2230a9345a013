"""Archives that are made to do harm, or are damaged."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile

import pytest
from attacking import _tar, _zip, little_memory, refused
from generated_data import tiny_imagenet_files

from lop.data import DATASETS, archive, locate
from lop.data.archive import extract


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


@pytest.mark.parametrize(
    ("packed", "kind"),
    [
        *((open, kind) for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)),
        *((packed, tarfile.XHDTYPE) for packed in (gzip.open, bz2.open, lzma.open)),
    ],
)
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
