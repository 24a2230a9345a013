"""Too large for the machine, as a user's error: before it is built where that can be known, else when it happens."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from lop.utils.errors import UserError

GB = 1e9
# torch has a type of error for accelerators only: what its CPU allocator, its size arithmetic and new tensors say
_CPU_SIGNS = ("DefaultCPUAllocator", "Storage size calculation overflowed", "buffer size", "Trying to create tensor")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of containers


@contextlib.contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn a failed allocation into a UserError that ends with the advice; other errors pass."""
    try:
        yield
    except (MemoryError, OverflowError, torch.cuda.OutOfMemoryError) as error:
        raise UserError(f"out of memory ({_first_line(error)}): {advice}") from None
    except RuntimeError as error:
        if not _is_of_the_cpus_memory(error):
            raise
        raise UserError(f"out of memory ({_first_line(error)}): {advice}") from None


def _is_of_the_cpus_memory(error: RuntimeError) -> bool:
    text = _first_line(error)
    return any(sign in text for sign in _CPU_SIGNS)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:150]


def require_weights_fit(net: nn.Module, device: torch.device) -> None:
    """Raises UserError when the weights alone are larger than the device's whole memory.

    For nets whose values are not drawn yet: Linux grants more memory than there is, and kills the process only when
    it is used.
    """
    needed = sum(p.numel() * p.element_size() for p in net.parameters())
    there = total_memory(device)
    if there is not None and needed > there:
        raise UserError(
            f"the weights alone need {needed / GB:,.0f} GB and {device} has {there / GB:,.0f} GB: make the net smaller"
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has left, within the container's limit; None where that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    total = total_memory(device)
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
        return available if total is None else min(available, total)
    return total


def total_memory(device: torch.device) -> int | None:
    """Bytes of memory of a device, within the container's limit; None where that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        amounts = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            amounts.append(int(path.read_text()))
    return min(amounts)
