"""Unpacking archives that nobody vouches for."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lop.utils.errors import UserError
from lop.utils.files import BLOCK, require_regular

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
Member = tuple[str, int, Callable[[], BinaryIO]]  # name, bytes declared, and how to open it


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into `folder`, regular files only.

    Raises UserError, before anything of it is written, for a member that would leave the folder (absolute, `..`)
    or is a link or device, or when more than 20 times the archive's size plus 256 MB would be unpacked; and for an
    archive that is truncated or corrupt.
    """
    require_regular(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as source:
                _write(_listed(_zip_members(source, archive), archive), archive, folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as source:
                _write(_listed(_tar_members(source, archive), archive), archive, folder)
        else:
            raise UserError(f"{archive} is no zip or tar file: fetch it again")
    except UserError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        raise UserError(f"{archive} is truncated or corrupt ({error}): fetch it again") from None


def _zip_members(source: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in source.infolist():
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if link:
            raise UserError(f"{archive} holds the link {info.filename!r}: refused, nothing was unpacked")
        if not info.is_dir():
            yield _checked(info.filename, archive), info.file_size, lambda info=info: source.open(info)


def _tar_members(source: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    for info in source:
        if not (info.isfile() or info.isdir()):
            raise UserError(f"{archive} holds the link or device {info.name!r}: refused, nothing was unpacked")
        if info.isfile():
            yield _checked(info.name, archive), info.size, lambda info=info: source.extractfile(info)


def _checked(name: str, archive: Path) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(
            f"{archive} holds {name!r}, which leaves its folder or names nothing: refused, nothing was unpacked"
        )
    return str(path)


def _listed(members: Iterator[Member], archive: Path) -> list[Member]:
    """The members, refused as soon as their declared sizes or their number are too many."""
    limit = archive.stat().st_size * RATIO + ALLOWANCE
    listed: list[Member] = []
    total = 0
    for member in members:
        total += member[1]
        if total > limit or len(listed) >= MAX_MEMBERS:
            raise UserError(f"{archive} would unpack to more than {limit} bytes or {MAX_MEMBERS} files: refused")
        listed.append(member)
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
