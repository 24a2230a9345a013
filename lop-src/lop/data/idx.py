"""IDX files, the format of MNIST (LeCun 1998), plain or gzipped."""

import gzip
import math
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np

from lop.utils.errors import UserError
from lop.utils.files import BLOCK, md5, require_regular

UNSIGNED_BYTE = 0x08
MAX_BYTES = 1 << 30  # the largest published set, EMNIST by class, has 0.55 GB


def read_idx(path: Path, digest: str | None = None) -> np.ndarray:
    """The uint8 array of one IDX file; its dimensions are in the file.

    digest: expected MD5 of the uncompressed content (the compressed bytes differ between distributors).
    Raises UserError for a file that is truncated, corrupt, not IDX, or does not match the digest.
    """
    content, shape = _content(path)
    if digest is not None and (found := md5(content)) != digest:
        raise UserError(
            f"{path} is not the published file (MD5 of the content {found}, expected {digest}): "
            "fetch it again, or set verify to false for data of your own"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def content_md5(path: Path) -> str:
    """MD5 of an IDX file's content, uncompressed where it is gzipped. Raises UserError for a bad file."""
    return md5(_content(path)[0])


def _content(path: Path) -> tuple[bytearray, tuple[int, ...]]:
    """The uncompressed content and the shape that its header declares; never more is unpacked than declared."""
    try:
        with open(require_regular(path), "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if gzipped else open(path, "rb") as file:
            return _read_declared(file, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is truncated or corrupt ({error}): fetch it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _read_declared(file: gzip.GzipFile | BufferedReader, path: Path) -> tuple[bytearray, tuple[int, ...]]:
    # a bytearray, not bytes, so that the array made from it is writable, as torch wants it
    content = bytearray(file.read(4))
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE or not 1 <= content[3] <= 4:
        raise UserError(f"{path} is not an IDX file of unsigned bytes: fetch it again")
    dimensions = content[3]
    content += file.read(4 * dimensions)
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise UserError(f"{path} is truncated or corrupt (its header ends after {len(content)} bytes): fetch it again")
    shape = tuple(int(n) for n in np.frombuffer(bytes(content[4:]), dtype=">u4"))
    expected = header + math.prod(shape)
    if expected > MAX_BYTES:
        raise UserError(f"{path} is corrupt (its header declares {expected} bytes): fetch it again")
    while len(content) <= expected and (block := file.read(min(BLOCK, expected + 1 - len(content)))):
        content += block
    if len(content) != expected:
        found = "more" if len(content) > expected else len(content)
        raise UserError(f"{path} is truncated or corrupt ({found} of {expected} bytes): fetch it again")
    return content, shape
