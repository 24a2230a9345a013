"""One table of a run folder: a CSV file that only grows."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

from lop.utils.errors import UserError
from lop.utils.files import disk_errors, sync_file

TABLES = ("tasks", "layers", "online", "spectra", "events", "timing")
TAIL = 256  # bytes that are compared before more are written


class TableChangedError(UserError):
    """Somebody else deleted, cut or replaced a table: the rows that were written are not there."""

    def __init__(self, path: Path):
        super().__init__(
            f"{path}: deleted or changed by another program since its rows were written; "
            "put it back and run the same command again, or set run.resume=never to start again"
        )


class Table:
    """A CSV file that only grows; cut back to a checkpoint's length when a run resumes.

    Numbers are written with all their digits. Raises TableChangedError when rows that were written are gone.
    """

    def __init__(self, path: Path):
        self.path = path
        self.columns: list[str] = []
        self.length = 0  # bytes
        self._digest = hashlib.blake2b(digest_size=16)  # of those bytes
        self._tail = b""  # the last of them
        self._synced = 0

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add rows; the first ones fix the columns, and later ones must have no others."""
        if not rows:
            return
        buffer = io.StringIO()
        if not self.columns:
            self.columns = list(dict.fromkeys(name for row in rows for name in row))
            csv.writer(buffer, lineterminator="\n").writerow(self.columns)
        writer = csv.DictWriter(buffer, self.columns, restval="nan", lineterminator="\n")
        writer.writerows(rows)
        data = buffer.getvalue().encode()
        self.check()
        with disk_errors(self.path), open(self.path, "r+b" if self.length else "w+b") as file:
            file.truncate(self.length)
            file.seek(self.length)
            file.write(data)
            file.flush()
        self._count(data)

    def _count(self, data: bytes) -> None:
        self.length += len(data)
        self._digest.update(data)
        self._tail = (self._tail + data)[-TAIL:]

    def check(self) -> None:
        """Raises TableChangedError when the file does not end, at its length, with what was written."""
        if not self.length:
            return
        try:
            with open(self.path, "rb") as file:
                file.seek(self.length - len(self._tail))
                found = file.read(len(self._tail))
        except FileNotFoundError:
            found = None
        if found != self._tail:
            raise TableChangedError(self.path)

    def sync(self) -> None:
        """Make all rows survive a power cut: a checkpoint is about to vouch for them."""
        self.check()
        if self.length > self._synced:
            sync_file(self.path)
            self._synced = self.length

    def state_dict(self) -> dict:
        return {"columns": list(self.columns), "length": self.length, "digest": self._digest.hexdigest()}

    def load_state_dict(self, state: dict) -> None:
        """Cut the file back to what was there at the checkpoint. Raises TableChangedError when that is not there."""
        with disk_errors(self.path):
            data = self.path.read_bytes() if self.path.exists() else b""
        self.columns, self.length = list(state["columns"]), 0
        self._digest, self._tail = hashlib.blake2b(digest_size=16), b""
        self._count(data[: state["length"]])
        if self._digest.hexdigest() != state["digest"]:
            raise TableChangedError(self.path)
        if len(data) > self.length:
            with disk_errors(self.path), open(self.path, "r+b") as file:
                file.truncate(self.length)
