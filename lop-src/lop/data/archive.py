"""Unpacking archives that nobody vouches for."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lop.utils.errors import UserError

Member = tuple[str, Callable[[], BinaryIO]]  # name, and how to open it


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into `folder`, regular files only.

    Raises UserError, before anything of it is written, for a member that would leave the folder (absolute, `..`)
    or is a link or device; and for an archive that is truncated or corrupt.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as source:
                _write(list(_zip_members(source, archive)), folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as source:
                _write(list(_tar_members(source, archive)), folder)
        else:
            raise UserError(f"{archive} is no zip or tar file: fetch it again")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is truncated or corrupt ({error}): fetch it again") from None


def _zip_members(source: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in source.infolist():
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if link:
            raise UserError(f"{archive} holds the link {info.filename!r}: refused, nothing was unpacked")
        if not info.is_dir():
            yield _checked(info.filename, archive), lambda info=info: source.open(info)


def _tar_members(source: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    for info in source:
        if not (info.isfile() or info.isdir()):
            raise UserError(f"{archive} holds the link or device {info.name!r}: refused, nothing was unpacked")
        if info.isfile():
            yield _checked(info.name, archive), lambda info=info: source.extractfile(info)


def _checked(name: str, archive: Path) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(f"{archive} holds {name!r}, which leaves its folder: refused, nothing was unpacked")
    return str(path)


def _write(members: list[Member], folder: Path) -> None:
    for name, opened in members:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened() as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
