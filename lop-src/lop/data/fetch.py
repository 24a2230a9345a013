"""Fetching one file: resumable, verified, and visible under its name only when it is whole."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lop.utils.errors import UserError

BLOCK = 1 << 20
TRIES = 3
TIMEOUT = 30  # seconds without a byte
Report = Callable[[int, int | None], None]  # bytes so far, of how many (None: unknown)


@dataclass(frozen=True)
class RemoteFile:
    """urls: mirrors, tried in turn. md5: published checksum, or None where there is none."""

    name: str
    urls: tuple[str, ...]
    md5: str | None


def file_md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(remote: RemoteFile, folder: Path, report: Report) -> Path:
    """The file in `folder`, fetched unless it is there with the right checksum. Raises UserError when it cannot be.

    What was received of an interrupted download is kept beside it as `.<name>.part`, and continued next time.
    """
    target = folder / remote.name
    part = folder / f".{remote.name}.part"
    reasons = []
    if target.exists():
        if remote.md5 is None or file_md5(target) == remote.md5:
            return target
        reasons.append(f"{target}: wrong checksum")
    for url in remote.urls:
        try:
            if _fetch_verified(url, part, remote.md5, report):
                os.replace(part, target)
                return target
            reasons.append(f"{url}: wrong checksum")
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {_reason(error)}")
    raise UserError("; ".join(reasons))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    cause = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(cause).split())


def _fetch_verified(url: str, part: Path, md5: str | None, report: Report) -> bool:
    """Whether `part` is now the whole file; it is removed when its checksum is wrong."""
    for attempt in range(TRIES):
        resumed = part.exists()
        try:
            _receive(url, part, report)
        except (OSError, http.client.HTTPException):
            if attempt == TRIES - 1 or not part.exists():
                raise
            continue
        if md5 is None or file_md5(part) == md5:
            return True
        part.unlink()
        if not resumed:  # else the old piece may have been bad: once more, from the start
            return False
    return False


def _receive(url: str, part: Path, report: Report) -> None:
    """Append what is missing of the file. Raises OSError when the connection ends early."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "lop", "Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send, or the piece is longer than the file
            part.unlink(missing_ok=True)
            return _receive(url, part, report) if have else _raise(error)
        raise
    with response:
        if response.status != 206:
            have = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                have += len(block)
                report(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise OSError(f"the connection ended after {have} of {total} bytes")
    return None


def _raise(error: Exception) -> None:
    raise error
