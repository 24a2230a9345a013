"""Everything that has a state, saved and restored as one file, every byte of which is covered by a checksum."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from lop.utils.errors import UserError
from lop.utils.files import disk_errors, read_regular, sync_folder, write_atomic

FORMAT = 2
MARK = b"lop checkpoint\n\0"  # a file is the mark, the checksum of all the rest, and what torch wrote
DIGEST_SIZE = 32
START_AGAIN = "put the right one back, or set run.resume=never to start again"


class DamagedCheckpointError(UserError):
    """The bytes of a checkpoint are not those that were written."""

    def __init__(self, path: Path):
        super().__init__(f"{path}: damaged, or not a checkpoint of this version, nothing was loaded; {START_AGAIN}")


def save(path: Path, state: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint (tensors, numbers, strings, lists, dicts); the old one stays until the new one is whole.

    previous: where the old one is kept from then on. A kill between the two renames leaves it there, and no other.
    """
    buffer = io.BytesIO()  # torch's own writer hides why a file cannot be written
    torch.save({"format": FORMAT, **_compact(state)}, buffer)
    body = buffer.getbuffer()

    def write(file) -> None:
        file.write(MARK + _digest(body))
        file.write(body)

    def keep() -> None:
        if previous is not None and path.exists():
            os.replace(path, previous)

    write_atomic(path, write, before_rename=keep)


def _compact(state: Any) -> Any:
    """The state, in which no tensor is a view of a larger memory, all of which torch would write: a member's tensors
    are parts of its stack's."""
    if isinstance(state, torch.Tensor):
        return state.clone() if state.untyped_storage().nbytes() > state.numel() * state.element_size() else state
    if isinstance(state, dict):
        return {key: _compact(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_compact(value) for value in state)
    return state


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises DamagedCheckpointError when a byte is not as it was written, UserError for a file that cannot be read and for
    another version's.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {START_AGAIN}") from None
    start = len(MARK) + DIGEST_SIZE
    body = memoryview(data)[start:]
    if data[:start] != MARK + _digest(body):
        raise DamagedCheckpointError(path)
    try:
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except Exception as error:  # torch's restricted unpickler fails in many ways on bytes that are not its own
        raise UserError(
            f"{path}: not a checkpoint of this project ({type(error).__name__}), nothing was loaded; {START_AGAIN}"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise UserError(f"{path}: checkpoint format {found}, expected {FORMAT}; {START_AGAIN}")
    return state


def load_last_good(path: Path, previous: Path) -> tuple[dict[str, Any], DamagedCheckpointError | None]:
    """The last checkpoint, or the one before it when the last is damaged or gone; and what was wrong with the last.

    The damaged one is then replaced by the good one, so that the next save does not keep it as the one before.
    """
    if not path.exists():
        os.replace(previous, path)
        sync_folder(path.parent)
    try:
        return load(path), None
    except DamagedCheckpointError as damage:
        if not previous.exists():
            raise
        state = load(previous)
        with disk_errors(path):
            os.replace(previous, path)
            sync_folder(path.parent)
        return state, damage


def _digest(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST_SIZE).digest()
