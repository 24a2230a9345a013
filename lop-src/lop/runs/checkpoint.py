"""Everything that has a state, saved and restored as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lop.utils.errors import UserError
from lop.utils.files import write_atomic

FORMAT = 1
START_AGAIN = "put the right one back, or set run.resume=never to start again"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint (tensors, numbers, strings, lists, dicts); the old one stays until the new one is whole."""
    write_atomic(path, lambda file: torch.save({"format": FORMAT, **state}, file))


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without executing anything in it. Raises UserError for a foreign or damaged file."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch's restricted unpickler fails in many ways on bytes that are not its own
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: not a checkpoint of this project ({reason}), nothing was loaded; {START_AGAIN}"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise UserError(f"{path}: checkpoint format {found}, expected {FORMAT}; {START_AGAIN}")
    return state
