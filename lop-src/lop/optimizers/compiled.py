"""The entrywise updates as compiled kernels: one pass over the memory, nothing kept in between."""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lop.optimizers.multi_tensor import Tensors
from lop.utils.errors import UserError


@cache
def _kernel(update: Callable[..., None]) -> Callable[[Sequence[Tensors], dict[str, Tensor], dict[str, Any]], None]:
    """`update` for whole parameters, compiled anew for every list of shapes and every set of options."""

    def whole(columns: Sequence[Tensors], numbers: dict[str, Tensor], options: dict[str, Any]) -> None:
        scratch = [torch.empty_like(t) for t in columns[0]]  # in a kernel: a register
        update(*columns, scratch, **numbers, **options)

    return torch.compile(whole, dynamic=False, options=_inductor_options())


def _inductor_options() -> dict[str, Any] | None:
    """Without the precompiled header of newer versions, which for a kernel or two costs more than it saves."""
    known = importlib.import_module("torch._inductor").list_options()  # a slow import, for those who compile
    return {name: False for name in ("cpp_cache_precompile_headers",) if name in known} or None


def run_compiled(
    update: Callable[..., None], columns: Sequence[Tensors], numbers: dict[str, float], options: dict[str, Any]
) -> None:
    """`update(*columns, scratch, **numbers, **options)` as one kernel per parameter.

    numbers reach it as 0-d tensors on the CPU, so that another value needs no other kernel; options are constants of
    the kernel. Raises UserError where torch.compile does not work (no C++ compiler, a Python it does not know).
    """
    dtype = torch.promote_types(columns[0][0].dtype, torch.float32)
    values = torch.tensor(list(numbers.values()), dtype=dtype).unbind()
    try:
        _kernel(update)(
            [[t.detach() for t in column] for column in columns], dict(zip(numbers, values, strict=True)), options
        )
    except RuntimeError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"does not work on this machine, set it to false: {reason}", option="compile") from error
