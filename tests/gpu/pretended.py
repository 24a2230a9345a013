"""A pretended GPU: tensors that say they are on `cuda:0` and are computed on the CPU, for machines without one.

Inside `pretended_gpu()` a tensor made for `cuda` is a `Pretended`. It takes the code paths of a GPU (`device.type`,
`is_cuda`), has real values, and refuses with `DeviceMixError` an operation between the two devices, as a GPU does.
Inside `no_waiting()` it also refuses, with `WaitError`, that host and GPU wait for each other: `.item()`, `bool()`,
`nonzero`, an index by a mask, a copy from one to the other. What it cannot show: times, streams, kernels of CUDA's own,
captured graphs.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from lop.utils import seeding

GPU = torch.device("cuda", 0)
aten = torch.ops.aten
# what a kernel cannot know before it has run: the host waits for it
_WAITS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
_INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
_COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}
_READS = {
    *("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__"),
}

_strict: ContextVar[bool] = ContextVar("no_waiting", default=False)
_in_engine: ContextVar[bool] = ContextVar("in_engine", default=False)
"""Whether autograd's own code makes tensors: as it sees the CPU's tensors, it makes them there."""


class WaitError(AssertionError):
    """Host and GPU would wait for each other."""


class DeviceMixError(AssertionError):
    """Tensors of two devices in one operation."""


class PretendedGenerator(torch.Generator):
    """Of the pretended GPU; draws the CPU's numbers."""

    @property
    def device(self) -> torch.device:
        return GPU


class Pretended(Tensor):
    """`inner`: the tensor on the CPU that it stands for."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device="cpu",
        )
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Pretended({self.inner!r})"

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict) -> "Pretended":
        made = Pretended(self.inner.detach().clone())
        made = nn.Parameter(made, self.requires_grad) if isinstance(self, nn.Parameter) else made
        memo[id(self)] = made
        return made

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        own = bool(args) and isinstance(args[0], Pretended)
        if function == Tensor.data.__set__:
            args[0].inner = args[1].inner
        if name == "new_tensor":
            _wait("a copy from the CPU")
            return Pretended(args[0].inner.new_tensor(*args[1:], **kwargs))
        if name == "__setitem__" and not isinstance(args[2], Tensor):  # a number: a GPU fills with it
            args[0].inner[tree_map(_inner, args[1])] = args[2]
            return None
        if own and (name in _READS or (name == "to" and _asked(args[1:], kwargs) == "cpu")):
            _wait(name)
            dtype = next((a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.dtype)), args[0].dtype)
            there = args[0].detach().inner.to(dtype, copy=True)
            return there if name in ("to", "cpu") else getattr(there, name)(*args[1:], **kwargs)
        if name == "to" and own:
            args = (args[0], *(a for a in args[1:] if not _is_device(a)))
            kwargs = {key: value for key, value in kwargs.items() if key != "device"}
            if len(args) == 1 and not kwargs:
                return args[0]
        if name == "cuda" and own:
            return args[0]
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _run(function, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = any(isinstance(t, Pretended) for t in tensors)
    if here:
        _require_no_wait(function, args, tensors)
    asked = kwargs.get("device")
    inner = function(*tree_map(_inner, args), **tree_map(_inner, kwargs | ({"device": "cpu"} if asked else {})))
    if not here and not (_in_engine.get() and not tensors):
        return inner
    if not here:
        return tree_map(lambda t: Pretended(t) if isinstance(t, Tensor) else t, inner)
    if function._schema.is_mutable and function._schema.name.startswith("aten::_foreach"):
        increment_version([t for t in tree_leaves(args[0]) if isinstance(t, Pretended)])  # left out for subclasses
    wrapped = tree_map(lambda t: Pretended(t) if isinstance(t, Tensor) else t, inner)
    return return_and_correct_aliasing(function, args, kwargs, wrapped)


def _require_no_wait(function, args: tuple, tensors: list[Tensor]) -> None:
    if function in _WAITS:
        _wait(function)
    others = [t for t in tensors if not isinstance(t, Pretended)]
    if function in _INDEXED:
        indices = [index for index in args[1] if index is not None]
        filled = function is not aten.index.Tensor and args[2].numel() == 1  # a masked fill
        if not filled and any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            _wait(f"{function} by a mask")
        others = [t for t in others if all(t is not index for index in indices)]  # indices may be on the host
    if function in _COPIES:
        if others:
            _wait("a copy between the CPU and the GPU")
        return
    if any(t.dim() for t in others):  # numbers may be on the host
        raise DeviceMixError(f"{function}: shapes {[tuple(t.shape) for t in others]} are on the CPU")


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value


def _wait(what: object) -> None:
    if _strict.get():
        raise WaitError(str(what))


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"))


def _asked(arguments: tuple, kwargs: dict[str, Any]) -> str | None:
    """The device that a call asks for; None: it says nothing of it."""
    for value in (*arguments, *kwargs.values()):
        if isinstance(value, Tensor):
            return value.device.type
        if _is_device(value):
            return torch.device(value).type
    return None


class _Dispatch(TorchDispatchMode):
    """For operations without a tensor of ours among their arguments, and for the backward pass."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """What is made for a GPU, or moved to one, is pretended to be there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        from_host = name in ("to", "cuda") and args and not isinstance(args[0], Pretended)
        if from_host and (name == "cuda" or _asked(args[1:], kwargs) == "cuda"):
            _wait("a copy from the CPU")
            given = (*args[1:], *kwargs.values())
            dtype = next(
                (
                    a if isinstance(a, torch.dtype) else a.dtype
                    for a in given
                    if hasattr(a, "dtype") or isinstance(a, torch.dtype)
                ),
                args[0].dtype,
            )
            return Pretended(args[0].detach().to(dtype, copy=True))
        if name in ("grad", "backward"):
            return _set(_in_engine, True, function, args, kwargs)
        if _in_engine.get():  # a hook's or a function's own Python code
            return _set(_in_engine, False, self.__torch_function__, (function, types, args), {"kwargs": kwargs})
        device = kwargs.get("device")
        on_host = device is None and not any(isinstance(leaf, Pretended) for leaf in tree_leaves(args))
        if on_host and isinstance(kwargs.get("generator"), PretendedGenerator):
            raise DeviceMixError(f"{name}: the CPU's tensors from a GPU's generator")
        if name == "to" or device is None or torch.device(device).type != "cuda":
            return function(*args, **kwargs)
        if name in ("tensor", "as_tensor"):
            _wait("a copy from the CPU")
        made = function(*args, **kwargs | {"device": "cpu"})
        return made if isinstance(made, Pretended) else Pretended(made)


def _set(variable: ContextVar[bool], value: bool, function, args: tuple, kwargs: dict[str, Any]) -> Any:
    token = variable.set(value)
    try:
        return function(*args, **kwargs)
    finally:
        variable.reset(token)


def _drawing_on_the_cpu(seed: int, *purpose: object, device: torch.device | str = "cpu") -> torch.Generator:
    if torch.device(device).type == "cpu":
        return _make_generator(seed, *purpose)
    return PretendedGenerator().manual_seed(seeding.derive_seed(seed, *purpose))


_make_generator, _fork_rng = seeding.make_generator, torch.random.fork_rng


@contextmanager
def host_generators() -> Iterator[None]:
    """Generators for a GPU are `PretendedGenerator`."""
    holders = [m for m in list(sys.modules.values()) if getattr(m, "make_generator", None) is _make_generator]
    try:
        for module in holders:
            module.make_generator = _drawing_on_the_cpu
        yield
    finally:
        for module in holders:
            module.make_generator = _make_generator


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """The device to build nets and tensors for. Generators for it draw the CPU's numbers."""
    forked = patch("torch.random.fork_rng", lambda devices=(): _fork_rng(devices=[]))
    with forked, host_generators(), _Dispatch(), _Factories():
        yield GPU


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raises `WaitError` where host and pretended GPU would wait for each other."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


def moved(net: nn.Module) -> nn.Module:
    """The net with its parameters and buffers on the pretended GPU: what `net.to("cuda")` does to a real one."""
    done: dict[int, Tensor] = {}
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, own in tensors.items():
                if own is not None and id(own) not in done:
                    there = Pretended(own.detach().clone())
                    done[id(own)] = nn.Parameter(there, own.requires_grad) if tensors is module._parameters else there
                if own is not None:
                    tensors[name] = done[id(own)]
    return net
