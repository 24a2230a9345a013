"""Devices by name."""

import contextlib
from collections.abc import Iterator

import torch

from lop.utils.errors import UserError


def find_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {name}: this machine has {torch.cuda.device_count()} usable GPUs; use run.device=cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps: not available on this machine; use run.device=cpu")
    return device


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """torch's number of threads is the process's: a run sets its own and gives it back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
