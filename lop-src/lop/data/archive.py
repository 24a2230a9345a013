"""Unpacking archives that nobody vouches for."""

import bz2
import contextlib
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from lop.utils.errors import UserError
from lop.utils.files import BLOCK, require_regular

MAX_HEADER, MAX_HEADERS = 1 << 16, 1 << 26  # bytes of one extended header of a tar file, and of all
RATIO, ALLOWANCE, MAX_MEMBERS = 20, 256 << 20, 500_000  # images hardly shrink: more than 20-fold is an attack
# what zipfile, tarfile and the decompressors raise for damage, passwords (RuntimeError) and unknown methods
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)
Member = tuple[str, int, Callable[[], IO[bytes]]]  # name, bytes declared, and how to open it


def extract(archive: Path, folder: Path, only: Collection[str] | None = None) -> None:
    """Unpack a zip or tar file into `folder`, regular files only. only: these members and no others.

    Raises UserError, before anything of it is written, for a member that would leave the folder (absolute, `..`)
    or is a link or device, when more than 20 times the archive's size plus 256 MB would be unpacked, and when
    a member of `only` is not there; and for an archive that is truncated or corrupt.
    """
    require_regular(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as source:
                _write(_listed(_zip_members(source, archive), archive, only), archive, folder)
        else:
            with _opened_tar(archive) as (source, stream):
                members = _listed(_tar_members(source, archive), archive, only)
                stream.is_listing = False
                _write(members, archive, folder)
    except UserError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        raise UserError(f"{archive} is truncated or corrupt ({error}): fetch it again") from None


class _Headers:
    """A tar's bytes as tarfile reads them. While it lists the members, what it asks for is a header: of bounded size.

    An extended header says itself how long it is, and is kept in memory: a few compressed bytes would fill it.
    """

    def __init__(self, stream: IO[bytes], archive: Path):
        self.stream, self.archive = stream, archive
        self.is_listing, self.extended = True, 0
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if self.is_listing and size > tarfile.BLOCKSIZE:
            self.extended += size
            if size > MAX_HEADER or self.extended > MAX_HEADERS:
                raise UserError(f"{self.archive} is no archive of images (its headers are too long): fetch it again")
        return self.stream.read(size)


@contextlib.contextmanager
def _opened_tar(archive: Path) -> Iterator[tuple[tarfile.TarFile, _Headers]]:
    with open(archive, "rb") as file:
        start = file.read(6)
    openers: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), open)
    with opener(archive, "rb") as stream:
        headers = _Headers(stream, archive)
        try:
            source = tarfile.TarFile(fileobj=cast(IO[bytes], headers))  # tarfile only reads, seeks and tells
        except tarfile.TarError:
            raise UserError(f"{archive} is no zip or tar file: fetch it again") from None
        with source:
            yield source, headers


def _zip_members(source: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in source.infolist():
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if link:
            raise UserError(f"{archive} holds the link {info.filename!r}: refused, nothing was unpacked")
        if not info.is_dir():
            yield _checked(info.filename, archive), info.file_size, partial(source.open, info)


def _tar_members(source: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    for info in source:
        if not (info.isfile() or info.isdir()):
            raise UserError(f"{archive} holds the link or device {info.name!r}: refused, nothing was unpacked")
        if info.isfile():
            yield _checked(info.name, archive), info.size, partial(_extracted, source, info)


def _extracted(source: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = source.extractfile(info)
    assert file is not None  # a file's content; folders have none
    return file


def _checked(name: str, archive: Path) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(
            f"{archive} holds {name!r}, which leaves its folder or names nothing: refused, nothing was unpacked"
        )
    return str(path)


def _listed(members: Iterator[Member], archive: Path, only: Collection[str] | None) -> list[Member]:
    """The members that are wanted, refused as soon as all members' declared sizes or their number are too many."""
    limit = archive.stat().st_size * RATIO + ALLOWANCE
    listed: list[Member] = []
    total = 0
    for number, member in enumerate(members):
        total += member[1]
        if total > limit or number >= MAX_MEMBERS:
            raise UserError(f"{archive} would unpack to more than {limit} bytes or {MAX_MEMBERS} files: refused")
        if only is None or member[0] in only:
            listed.append(member)
    if only is not None and (absent := sorted(set(only) - {name for name, *_ in listed})):
        raise UserError(f"{archive} does not hold {', '.join(absent)}: fetch it again")
    return listed


def _write(members: list[Member], archive: Path, folder: Path) -> None:
    for name, size, opened in members:
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened() as source, open(target, "xb") as file:
                left = size
                while block := source.read(min(BLOCK, left + 1)):
                    left -= len(block)
                    if left < 0:
                        raise EOFError(f"{name!r} is longer than declared")
                    file.write(block)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UserError(f"{archive} holds {name!r} twice, or as file and folder: fetch it again") from None
