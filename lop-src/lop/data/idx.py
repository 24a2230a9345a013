"""IDX files, the format of MNIST (LeCun 1998), plain or gzipped."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from lop.utils.errors import UserError

UNSIGNED_BYTE = 0x08
MAX_BYTES = 4 << 30  # refuses a header that promises nonsense before memory is asked for


def read_idx(path: Path, digest: str | None = None) -> np.ndarray:
    """The uint8 array of one IDX file; its dimensions are in the file.

    digest: expected MD5 of the uncompressed content (the compressed bytes differ between distributors).
    Raises UserError for a file that is truncated, corrupt, not IDX, or does not match the digest.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or not 1 <= content[3] <= 4:
        raise UserError(f"{path} is not an IDX file of unsigned bytes: fetch it again")
    header = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:header], dtype=">u4"))
    expected = header + int(np.prod(shape, dtype=np.uint64)) if len(shape) == content[3] else header
    if len(content) != expected:
        raise UserError(f"{path} is truncated or corrupt ({len(content)} of {expected} bytes): fetch it again")
    if digest is not None and (found := _md5(content)) != digest:
        raise UserError(
            f"{path} is not the published file (MD5 of the content {found}, expected {digest}): "
            "fetch it again, or set verify to false for data of your own"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def content_md5(path: Path) -> str:
    """MD5 of a file's content, uncompressed where it is gzipped. Raises UserError for an unreadable file."""
    return _md5(_content(path))


def _md5(content: bytes | bytearray) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _content(path: Path) -> bytearray:
    # a bytearray, not bytes, so that the array made from it is writable, as torch wants it
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if gzipped else open(path, "rb") as file:
            content = bytearray(file.read(MAX_BYTES))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is truncated or corrupt ({error}): fetch it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return content
