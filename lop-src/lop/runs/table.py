"""One table of a run folder: a CSV file that only grows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lop.utils.errors import UserError
from lop.utils.files import disk_errors, sync_file

TABLES = ("tasks", "layers", "online", "spectra", "events", "timing")


class Table:
    """A CSV file that only grows; cut back to a checkpoint's length when a run resumes.

    Numbers are written with all their digits.
    """

    def __init__(self, path: Path):
        self.path = path
        self.columns: list[str] = []
        self.length = 0  # bytes
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
        with disk_errors(self.path), open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.length)
            file.seek(self.length)
            file.write(data)
            file.flush()
        self.length += len(data)

    def sync(self) -> None:
        """Make all rows survive a power cut: a checkpoint is about to vouch for them."""
        if self.length > self._synced:
            sync_file(self.path)
            self._synced = self.length

    def state_dict(self) -> dict:
        return {"columns": list(self.columns), "length": self.length}

    def load_state_dict(self, state: dict) -> None:
        """Cut the file back to what was there at the checkpoint. Raises UserError when rows are missing."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < state["length"]:
            raise UserError(f"{self.path}: shorter than the checkpoint says; set run.resume=never to start again")
        self.columns, self.length = list(state["columns"]), state["length"]
        if size > self.length:
            with disk_errors(self.path), open(self.path, "r+b") as file:
                file.truncate(self.length)
