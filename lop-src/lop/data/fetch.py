"""Fetching one file: resumable, verified, and visible under its name only when it is whole."""

import contextlib
import http.client
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lop.utils.errors import UserError
from lop.utils.files import BLOCK, file_md5, require_regular

TRIES = 3
TIMEOUT = 30  # seconds in which a server must send its headers, and then SLOWEST bytes per second
SLOWEST = 1000
Report = Callable[[int, int | None], None]  # bytes so far, of how many (None: unknown)


@dataclass(frozen=True)
class RemoteFile:
    """urls: mirrors, tried in turn. md5: published checksum, or None where there is none.

    size: bytes, rounded where it is not known exactly; more than twice as many are refused.
    """

    name: str
    urls: tuple[str, ...]
    md5: str | None
    size: int

    @property
    def limit(self) -> int:
        return 2 * self.size


def fetch(remote: RemoteFile, folder: Path, report: Report) -> Path:
    """The file in `folder`, fetched unless it is there with the right checksum. Raises UserError when it cannot be.

    What was received of an interrupted download is kept beside it as `.<name>.part`, and continued next time.
    """
    target = folder / remote.name
    part = folder / f".{remote.name}.part"
    reasons = []
    if target.exists():
        require_regular(target)
        if remote.md5 is None or file_md5(target) == remote.md5:
            return target
        reasons.append(f"{target}: wrong checksum")
    for url in remote.urls:
        try:
            if _fetch_verified(url, part, remote, report):
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


def _fetch_verified(url: str, part: Path, remote: RemoteFile, report: Report) -> bool:
    """Whether `part` is now the whole file; it is removed when its checksum is wrong."""
    for attempt in range(TRIES):
        resumed = part.exists()
        try:
            _receive(url, part, remote.limit, report)
        except (OSError, http.client.HTTPException):
            if attempt == TRIES - 1 or not part.exists():
                raise
            continue
        if remote.md5 is None or file_md5(part) == remote.md5:
            return True
        part.unlink()
        if not resumed:  # else the old piece may have been bad: once more, from the start
            return False
    return False


def _receive(url: str, part: Path, limit: int, report: Report) -> None:
    """Append what is missing of the file. Raises OSError when the connection ends early or brings too little."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "lop", "Range": f"bytes={have}-"} if have else {})
    with contextlib.closing(_Answer(request)) as answer:
        try:
            response = answer.take()
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing is left to send, or the piece is longer than the file
                part.unlink(missing_ok=True)
                return _receive(url, part, limit, report) if have else _raise(error)
            raise
        except ValueError as error:  # an address that the server names as the file's new one cannot be parsed
            raise OSError(f"the server redirects to a bad address ({error})") from None
        if response.status != 206:
            have = 0  # the server sends the whole file
        elif not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
            part.unlink(missing_ok=True)
            raise OSError(f"the server sent another piece of the file than the one from byte {have}")
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,18}", length.strip()):
            raise OSError(f"the server gave the length {length[:40]!r}")
        total = have + int(length) if length is not None else None
        if total is not None and total > limit:
            raise OSError(f"the server offers {total} bytes, more than the {limit} that are accepted")
        with open(part, "ab" if have else "wb") as file:
            while block := answer.take():
                file.write(block)
                have += len(block)
                report(have, total)
                if have > limit:
                    part.unlink()
                    raise OSError(f"the server sent more than the {limit} bytes that are accepted")
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise OSError(f"the connection ended after {have} of {total} bytes")
    return None


class _Answer:
    """A server's answer, read in a thread: first the response with its headers, then blocks of the body, b"" last.

    A socket's own timeout begins anew with every byte, wherever it is: in a header, in the length of a chunk, in a
    redirection. Here each span of TIMEOUT seconds has to bring SLOWEST bytes per second; the headers have one span.
    """

    def __init__(self, request: urllib.request.Request):
        self._read: queue.Queue = queue.Queue(maxsize=4)
        self._is_over = threading.Event()
        self._until, self._bytes = time.monotonic() + TIMEOUT, 0
        threading.Thread(target=self._ask, args=(request,), daemon=True).start()

    def _ask(self, request: urllib.request.Request) -> None:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                self._hand(response)
                while not self._is_over.is_set():
                    self._hand(block := response.read1(BLOCK))
                    if not block:
                        return
        except Exception as error:  # whatever goes wrong is the caller's, in the caller's thread
            self._hand(error)

    def _hand(self, thing: object) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(queue.Full):
                return self._read.put(thing, timeout=1)

    def take(self):
        """The next thing. Raises what reading it raised, and OSError when the server is too slow."""
        while True:
            with contextlib.suppress(queue.Empty):
                thing = self._read.get(timeout=max(0, self._until - time.monotonic()))
                break
            self._next_span()
        if isinstance(thing, Exception):
            raise thing
        self._bytes += len(thing) if isinstance(thing, bytes) else SLOWEST * TIMEOUT
        if time.monotonic() > self._until:
            self._next_span()
        return thing

    def _next_span(self) -> None:
        if self._bytes < SLOWEST * TIMEOUT:
            raise OSError(f"the server sent only {self._bytes} bytes in {TIMEOUT} seconds")
        self._until, self._bytes = time.monotonic() + TIMEOUT, 0

    def close(self) -> None:
        self._is_over.set()


def _raise(error: Exception) -> None:
    raise error
