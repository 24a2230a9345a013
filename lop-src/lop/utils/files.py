"""Files that are whole or not there."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lop.utils.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(
    path: Path, write: Callable[[BinaryIO], object], before_rename: Callable[[], None] | None = None
) -> None:
    """Write to a temporary name, flush to disk, rename. A crash leaves the old file or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with disk_errors(path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if before_rename is not None:
                before_rename()
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode()))


def make_folder(path: Path) -> None:
    """Make a folder and its parents, so that they survive a power cut."""
    with disk_errors(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            sync_folder(made.parent)


def sync_file(path: Path) -> None:
    """Make what was written to a file survive a power cut."""
    with disk_errors(path), open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut, where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, and whatever else keeps a file from being written, into a UserError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        if error.errno in FULL:
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from None
        raise UserError(f"{path}: cannot be written ({os.strerror(error.errno)}); choose another folder") from None


BLOCK = 1 << 20


def require_regular(path: Path) -> Path:
    """The path. Raises UserError unless it is a regular file: opening a named pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a regular file: put the data's file there")
    return path


def read_regular(path: str | Path) -> bytes:
    """What a regular file holds. Raises OSError for anything else: a named pipe would be waited for, a device has no
    end."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        directory = stat.S_ISDIR(mode)
        raise OSError(
            errno.EISDIR if directory else errno.EINVAL, "Is a directory" if directory else "not a regular file"
        )
    with open(number, "rb") as file:
        return file.read()


def md5(content: bytes | bytearray) -> str:
    """The checksum that data sets are published with, as hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def file_md5(path: Path) -> str:
    """The same of a file, read block by block. Raises UserError when it is not a regular, readable file."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(require_regular(path), "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
