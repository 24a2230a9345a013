"""Functions by their names: activations that are no modules of their own, and how to get at what they give."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ACTIVATIONS = frozenset(
    (
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "hardtanh",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "softplus",
        "softsign",
        "logsigmoid",
        "hardshrink",
        "softshrink",
        "tanhshrink",
        "threshold",
        "sin",
        "cos",
    )
)
"""Names of functions that work on every entry by itself; in place they end in an underscore."""

ASKING = frozenset(
    (
        "size",
        "dim",
        "numel",
        "nelement",
        "ndimension",
        "stride",
        "is_contiguous",
        "len",
        "element_size",
        "get_device",
        "storage_offset",
        "is_floating_point",
        "is_complex",
        "data_ptr",
        "get",
        "type",
        "hash",
        "repr",
        "format",
    )
)
"""Names of functions that, where they return no tensor, ask for what a tensor is like and not for its values."""

LIKE = frozenset(
    (
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
    )
)
"""Names of functions whose output does not depend on their input's values."""


def name_of(function: Callable) -> str:
    return getattr(function, "__name__", str(function)).strip("_")


class Tap(nn.Module):
    """Stands for an activation that is no module of its own: the output of the call-th function in `ACTIVATIONS`."""

    def __init__(self, call: int):
        super().__init__()
        self.call = call


class NthCall(nn.Module):
    """Stands for one call, the index-th of a forward pass, of an activation module that is called more than once."""

    def __init__(self, module: nn.Module, index: int):
        super().__init__()
        self._module = (module,)  # no part of this one
        self.index = index

    @property
    def module(self) -> nn.Module:
        return self._module[0]


class TappedCalls(TorchFunctionMode):
    """Hands the outputs of some calls of a forward pass to whoever asked for them.

    wanted: by the call's number what to do with its output.
    """

    def __init__(self, wanted: dict[int, Callable[[Tensor], None]]):
        super().__init__()
        self.wanted, self._calls = wanted, 0

    def __enter__(self):
        self._calls = 0
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if name_of(func) in ACTIVATIONS:
            give = self.wanted.get(self._calls)
            self._calls += 1
            if give is not None:
                give(output)
        return output
