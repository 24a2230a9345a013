"""Downloads from a local server: resumed, verified, atomic."""

import io
import tarfile
import zipfile
from dataclasses import replace

import pytest
from generated_data import write_class_files
from local_server import CONTENT, MD5

from lop.data import DATASETS, locate
from lop.data import download as downloads
from lop.data.archive import extract
from lop.data.fetch import RemoteFile, fetch
from lop.utils.errors import UserError


def quiet(done, total):
    pass


def test_a_file_arrives_whole_and_reports_progress(server, tmp_path):
    seen = []
    path = fetch(server.remote(), tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]
    fetch(server.remote(), tmp_path, quiet)
    assert len(server.requests) == 1


def test_a_cut_connection_is_continued_where_it_ended(server, tmp_path):
    server.cut = len(CONTENT) // 2 + 10
    assert fetch(server.remote(), tmp_path, quiet).read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={server.cut}-"]


def test_an_interrupted_download_leaves_no_file_and_is_continued_by_the_next_call(server, tmp_path):
    server.cut = 1000
    with pytest.raises(UserError, match=f"ended after .* of {len(CONTENT)} bytes"):
        fetch(server.remote(), tmp_path, quiet)
    assert not (tmp_path / "data.bin").exists()
    server.cut = None
    assert fetch(server.remote(), tmp_path, quiet).read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=3000-"


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    (tmp_path / ".data.bin.part").write_bytes(CONTENT[:1234])
    server.ranges = False
    assert fetch(server.remote(), tmp_path, quiet).read_bytes() == CONTENT


@pytest.mark.parametrize("piece", [b"garbage" * 100, CONTENT + b"more", CONTENT])
def test_a_bad_or_complete_old_piece(piece, server, tmp_path):
    (tmp_path / ".data.bin.part").write_bytes(piece)
    assert fetch(server.remote(), tmp_path, quiet).read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(server.remote(md5="0" * 32), tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_tried(server, tmp_path):
    remote = RemoteFile("data.bin", (f"{server.url}/gone", f"{server.url}/data.bin"), MD5, len(CONTENT))
    assert fetch(remote, tmp_path, quiet).read_bytes() == CONTENT
    with pytest.raises(UserError, match="HTTP 404"):
        fetch(RemoteFile("other", (f"{server.url}/gone",), None, 1), tmp_path, quiet)


def test_a_bad_file_in_place_is_replaced(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"half")
    assert fetch(server.remote(), tmp_path, quiet).read_bytes() == CONTENT


def _tar(path, members: dict[str, bytes], link: str | None = None) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("a/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)


def _zip(path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_archives_unpack(pack, tmp_path):
    pack(tmp_path / "archive", {"a/b.txt": b"b", "c.txt": b"c"})
    extract(tmp_path / "archive", tmp_path / "out")
    assert (tmp_path / "out/a/b.txt").read_bytes() == b"b"
    assert (tmp_path / "out/c.txt").read_bytes() == b"c"


@pytest.mark.parametrize("pack", [_tar, _zip])
@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/tmp/outside-lop", "..\\outside"])
def test_members_that_leave_the_folder_are_refused(pack, name, tmp_path):
    pack(tmp_path / "archive", {"good": b"1", name: b"2"})
    with pytest.raises(UserError, match="leaves its folder"):
        extract(tmp_path / "archive", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


def test_links_are_refused(tmp_path):
    _tar(tmp_path / "archive", {"good": b"1"}, link="/etc")
    with pytest.raises(UserError, match="link"):
        extract(tmp_path / "archive", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_truncated_archives_are_refused(pack, tmp_path):
    pack(tmp_path / "archive", {"a": bytes(range(256)) * 100, "b": b"1" * 5000})
    content = (tmp_path / "archive").read_bytes()
    (tmp_path / "archive").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="fetch it again"):
        extract(tmp_path / "archive", tmp_path / "out")


@pytest.fixture
def imagenet(server, tmp_path, monkeypatch):
    """The ImageNet-32 entry with a small archive on the local server, unverified."""
    monkeypatch.setattr(locate, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.chdir(tmp_path)
    write_class_files(tmp_path / "source", classes=2)
    files = {f"some/classes/{p.name}": p.read_bytes() for p in (tmp_path / "source").iterdir()}
    _zip(tmp_path / "packed", files)
    server.files["/classes"] = (tmp_path / "packed").read_bytes()
    record = DATASETS["imagenet32"]
    files = (RemoteFile("imagenet32-classes.archive", (f"{server.url}/classes",), None, 1_000_000),)
    small = replace(record, downloads=files, classes=2, images=(24, 4))
    monkeypatch.setitem(DATASETS, "imagenet32", small)
    return server


def test_download_installs_the_data(imagenet, tmp_path):
    where = downloads.download("imagenet32")
    assert where.resolve() == (tmp_path / "data/imagenet32/classes").resolve()
    assert sorted(p.name for p in where.iterdir()) == ["0.npy", "1.npy"]
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["imagenet32"]
    requests = len(imagenet.requests)
    downloads.download("imagenet32")
    assert len(imagenet.requests) == requests


def test_a_failed_download_says_how_to_place_the_file_by_hand(imagenet, tmp_path):
    imagenet.files.clear()
    with pytest.raises(UserError) as error:
        downloads.download("imagenet32", tmp_path / "mine")
    message = str(error.value)
    assert "\n" not in message
    assert "HTTP 404" in message
    assert f"{tmp_path / 'mine'}/" in message
    assert not (tmp_path / "mine").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "packed").rename(tmp_path / "mine/imagenet32-classes.archive")
    assert downloads.download("imagenet32", tmp_path / "mine") == tmp_path / "mine/imagenet32/classes"


def test_a_page_instead_of_the_archive(imagenet, tmp_path):
    imagenet.files["/classes"] = b"<html>too many downloads</html>"
    with pytest.raises(UserError, match="no zip or tar file"):
        downloads.download("imagenet32")
    assert not (tmp_path / "data/imagenet32").exists()
    assert not (tmp_path / "data/imagenet32-classes.archive").exists()


def test_data_that_went_bad_is_fetched_again(imagenet, tmp_path):
    where = downloads.download("imagenet32")
    (where / "0.npy").write_bytes(b"bad")
    downloads.download("imagenet32")
    assert (where / "0.npy").read_bytes() == (tmp_path / "source/0.npy").read_bytes()


def test_every_file_has_a_checksum_but_imagenet32s():
    without = {name for name, record in DATASETS.items() if any(file.md5 is None for file in record.downloads)}
    assert without == {"imagenet32"}


def test_a_server_that_sends_far_more_than_the_published_size(imagenet, tmp_path):
    imagenet.files["/classes"] = bytes(2_000_001)
    with pytest.raises(UserError, match="offers 2000001 bytes, more than the 2000000"):
        downloads.download("imagenet32")
    assert not list(tmp_path.glob("data/*"))
