"""What a net does in one forward pass, operation by operation, as it happens: any control flow will do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lop.nets.taps import ACTIVATIONS, ASKING, LIKE, name_of
from lop.nets.values import address, tensors_in

UNSEEN = "an operation that cannot be watched"
"""Name of what made a tensor in a way that torch's functions do not show: scripts, vmap, autograd functions."""

_OF_WEIGHTS = ("input", "weight", "bias")


@dataclass(eq=False)
class Operation:
    """One call of a torch function, or of a module taken as a whole (`module`, then `whole` is True).

    name: of the function, without the underscore of those that work in place. inputs, outputs: numbers of the values
    that flow in and out; those that do not depend on the net's input are left out. aliases: numbers of what else lies
    in the memory that it has overwritten. module: the childless one that is running, if one is. call: how many calls of
    functions in `ACTIVATIONS` came before. parameters: those among its arguments.
    """

    name: str
    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    inputs: list[int]
    outputs: list[int]
    module: nn.Module | None
    whole: bool
    call: int
    parameters: list[nn.Parameter]
    aliases: list[int] = field(default_factory=list)

    def replayed(self, x: Tensor) -> Tensor:
        """The same operation on other values; it has one input."""
        first = self.inputs[0]

        def swapped(value: Any) -> Any:
            return x if isinstance(value, _Value) and value.number == first else value

        leaf = {"is_leaf": lambda value: isinstance(value, _Value)}
        args, kwargs = pytree.tree_map(swapped, (self.args, self.kwargs), **leaf)
        return self.function(*args, **kwargs)

    @property
    def layer(self) -> nn.Linear | nn.Conv2d | None:
        """The module whose weight it multiplies its one input by, in that module's own call."""
        if self.name not in ("linear", "conv2d") or not isinstance(self.module, nn.Linear | nn.Conv2d):
            return None
        given = dict(zip(_OF_WEIGHTS, self.args, strict=False)) | self.kwargs
        own = all(given.get(name) is self.module._parameters.get(name) for name in _OF_WEIGHTS[1:])
        return self.module if own and isinstance(given["input"], _Value) and len(self.inputs) == 1 else None


@dataclass(frozen=True)
class _Value:
    """Stands for a tensor among recorded arguments."""

    number: int


@dataclass
class Trace:
    """operations in order; shapes of values by their number; outputs: values that the net returned.

    overwritten: values whose memory a later operation has written to. strays: by a parameter's id, the name of an
    operation that reads it and is no call of its own module. calls: names of the functions in `ACTIVATIONS`, in order.
    users: of a value, the operations that read it. makers: of a value, the operation it came from.
    """

    operations: list[Operation] = field(default_factory=list)
    shapes: dict[int, torch.Size] = field(default_factory=dict)
    outputs: set[int] = field(default_factory=set)
    overwritten: set[int] = field(default_factory=set)
    strays: dict[int, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.users: dict[int, list[Operation]] = {}
        self.makers: dict[int, Operation] = {}

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        for value in dict.fromkeys(operation.inputs):
            self.users.setdefault(value, []).append(operation)
        for value in (*operation.outputs, *operation.aliases):
            self.makers[value] = operation


def trace(model: nn.Module, arguments: tuple, whole: Callable[[nn.Module], bool]) -> Trace:
    """The operations of one forward pass. whole: which modules are one operation.

    Modes, buffers and random numbers are the caller's affair (`probing`).
    """
    try:
        return _trace(model, pytree.tree_map_only(Tensor, _with_graph, arguments), whole)
    except RuntimeError:  # what has a graph cannot be overwritten everywhere
        return _trace(model, pytree.tree_map_only(Tensor, torch.clone, arguments), whole)


def _trace(model: nn.Module, arguments: tuple, whole: Callable[[nn.Module], bool]) -> Trace:
    recorder = _Recorder(model, whole)
    handles = list(recorder.watch(model))
    try:
        with torch.enable_grad():  # without gradients attention takes another path, and what is unseen leaves no graph
            for tensor in tensors_in(arguments):
                recorder.number(tensor)
            with recorder:
                outputs = model(*arguments)
            recorder.returned(outputs)
    finally:
        for handle in handles:
            handle.remove()
    return recorder.trace


def _with_graph(tensor: Tensor) -> Tensor:
    """A copy that has a graph behind it, but is no leaf, which could not be overwritten."""
    copy = tensor.detach().clone()
    with torch.enable_grad():
        return copy.requires_grad_().clone() if copy.is_floating_point() else copy


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, whole: Callable[[nn.Module], bool]):
        super().__init__()
        self.trace = Trace()
        self._numbers: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no two tensors of the pass have one id
        self._nodes: dict[Any, list[int]] = {}  # of autograd's graph: the values that came out of them
        self._is_whole = whole
        self._running: list[nn.Module] = []  # innermost last
        self._versions: list[list[tuple[Tensor, int]]] = []  # of what those that are one operation were given
        self._inside = 0  # of modules that are one operation
        self._owners: dict[int, list[nn.Module]] = {}
        self._memory: dict[int, int] = {}  # of parameters: by its address, the parameter's id
        for module in model.modules():
            for p in module._parameters.values():
                if p is not None:
                    self._owners.setdefault(id(p), []).append(module)
                    self._memory[address(p)] = id(p)

    def number(self, tensor: Tensor) -> int:
        """A new number for what this tensor holds now."""
        number = len(self._kept)
        self._kept.append(tensor)
        if id(tensor) in self._numbers:
            self.trace.overwritten.add(self._numbers[id(tensor)])
        self._numbers[id(tensor)] = number
        self.trace.shapes[number] = tensor.shape
        if (node := _node(tensor)) is not None:
            self._nodes.setdefault(node, []).append(number)
        return number

    def watch(self, model: nn.Module) -> Iterator[Any]:
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # they take no hooks
                yield module.register_forward_pre_hook(self._enter, with_kwargs=True)
                yield module.register_forward_hook(self._leave, with_kwargs=True)

    def returned(self, outputs: Any) -> None:
        found = tensors_in(outputs)
        self._adopt(found)
        self.trace.outputs = {self._numbers[id(tensor)] for tensor in found if id(tensor) in self._numbers}

    def _whole(self, module: nn.Module) -> bool:
        return next(module.children(), None) is None and self._is_whole(module)

    def _enter(self, module: nn.Module, inputs: tuple, kwargs: dict[str, Any]) -> None:
        self._running.append(module)
        if self._whole(module):
            self._versions.append([] if self._inside else self._before(tensors_in((inputs, kwargs))))
            self._inside += 1

    def _leave(self, module: nn.Module, inputs: tuple, kwargs: dict[str, Any], output: Any) -> None:
        self._running.pop()
        if self._whole(module):
            self._inside -= 1
            versions, call = self._versions.pop(), len(self.trace.calls)
            if not self._inside:
                self._add(name_of(type(module)), module, inputs, kwargs, output, module, versions, True, call)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name, call = kwargs or {}, name_of(func), len(self.trace.calls)
        if name in ACTIVATIONS:
            self.trace.calls.append(name)
        given = tensors_in((args, kwargs))
        skips = bool(self._inside) or any(map(is_functorch_wrapped_tensor, given))
        versions = [] if skips else self._before(given)
        output = func(*args, **kwargs)
        asks = name in LIKE or (name in ASKING and not tensors_in(output))
        if not asks:
            self._note_strays(name, given)
        if not (asks or skips):
            running = self._running[-1] if self._running else None
            module = None if running is None or next(running.children(), None) else running
            self._add(name, func, args, kwargs, output, module, versions, False, call)
        return output

    def _note_strays(self, name: str, given: list[Tensor]) -> None:
        """Keeps which parameters are read by what is no call of their own module."""
        running = self._running[-1] if self._running else None
        weighs = not isinstance(running, nn.Linear | nn.Conv2d) or name in ("linear", "conv2d")
        for tensor in given:
            own = id(tensor)
            if not isinstance(tensor, nn.Parameter):
                own = 0 if own in self._numbers else self._memory.get(address(tensor), 0)  # a view made earlier
            elif weighs and any(module is running for module in self._owners.get(own, ())):
                continue
            if own:
                self.trace.strays.setdefault(own, name)

    def _add(self, name, function, args, kwargs, output, module, versions, whole: bool, call: int) -> None:
        given, results = [tensor for tensor, _ in versions], tensors_in(output)
        inputs = [self._numbers[id(tensor)] for tensor in given if id(tensor) in self._numbers]
        if not inputs:
            return

        def described(value: Any) -> Any:
            known = isinstance(value, Tensor) and id(value) in self._numbers
            return _Value(self._numbers[id(value)]) if known else value

        args, kwargs = pytree.tree_map(described, (args, kwargs))
        parameters = [tensor for tensor in given if isinstance(tensor, nn.Parameter)]
        written = [tensor for tensor, version in versions if tensor._version != version]
        named = {id(tensor) for tensor in results}
        results += [tensor for tensor in written if id(tensor) not in named and not isinstance(tensor, nn.Parameter)]
        outputs = [self.number(tensor) for tensor in results]
        aliases = [self.number(tensor) for tensor in self._sharing(written, results)]
        operation = Operation(
            name, function, args, kwargs, inputs, outputs, module, whole, call, parameters, aliases=aliases
        )
        self.trace.add(operation)

    def _sharing(self, written: list[Tensor], results: list[Tensor]) -> list[Tensor]:
        """The other known tensors whose memory has been written to."""
        if not written:
            return []
        places, named = {address(tensor) for tensor in written}, {id(tensor) for tensor in results}
        known = {id(tensor): tensor for tensor in self._kept}
        return [tensor for own, tensor in known.items() if own not in named and address(tensor) in places]

    def _before(self, given: list[Tensor]) -> list[tuple[Tensor, int]]:
        """What an operation is given, and how often its memory has been written to."""
        self._adopt(given)
        return [(tensor, tensor._version) for tensor in given]

    def _adopt(self, given: list[Tensor]) -> None:
        """Tensors of which nobody saw how they were made, but whose graph leads back to known values."""
        for tensor in given:
            unknown = id(tensor) not in self._numbers and not isinstance(tensor, nn.Parameter)
            if unknown and (node := _node(tensor)) is not None and (sources := self._sources(node)):
                number = self.number(tensor)
                self.trace.add(Operation(UNSEEN, torch.clone, (), {}, sources, [number], None, False, -1, []))

    def _sources(self, node: Any) -> list[int]:
        found: dict[int, None] = {}
        frontier, visited = [node], set()
        while frontier:
            node = frontier.pop()
            if node is None or node in visited:
                continue
            visited.add(node)
            if node in self._nodes:
                found |= dict.fromkeys(self._nodes[node])
            else:
                frontier += [earlier for earlier, _ in node.next_functions]
        return list(found)


def _node(tensor: Tensor) -> Any:
    """Of autograd's graph; None without one, and for one of several views after another of them has changed."""
    try:
        return tensor.grad_fn
    except RuntimeError:
        return None
