"""Scalars for TensorBoard, beside the tables, by torch's own writer: for whoever watches runs there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lop.utils.errors import UserError

FOLDER = "tensorboard"


class Scalars:
    """Writes what the tables get, too, into a run folder's `tensorboard`; a resumed run hides what it does again.

    Raises UserError where TensorBoard is not installed.
    """

    def __init__(self, run_folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            problem = "TensorBoard is not installed; pip install 'lop[tensorboard]', or leave it out"
            raise UserError(problem, option="run.tensorboard", joint=": ") from None
        self._make, self._path = SummaryWriter, run_folder / FOLDER
        self._writer: Any = None

    def write(self, group: str, step: int, values: Mapping[str, Any]) -> None:
        """The finite numbers among these values, as `group/name`. step: of training, as in the tables."""
        if self._writer is None:
            self._writer = self._make(str(self._path), purge_step=step)
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Everything is on the disk; the next value begins a new file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
