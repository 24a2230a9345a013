"""What a net does in one forward pass, operation by operation, as it happens: any control flow will do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

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


def name_of(function: Callable) -> str:
    return getattr(function, "__name__", str(function)).strip("_")


@dataclass(eq=False)
class Operation:
    """One call of a torch function, or of a module taken as a whole (`module`, then `whole` is True).

    name: of the function, without the underscore of those that work in place. inputs, outputs: numbers of the values
    that flow in and out; those that do not depend on the net's input are left out. call: how many calls of functions
    in `ACTIVATIONS` came before. parameters: those among its arguments.
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

    def replayed(self, x: Tensor) -> Tensor:
        """The same operation on other values; it has one input."""
        if self.whole:
            return self.function(x)
        first = self.inputs[0]

        def swapped(value: Any) -> Any:
            return x if isinstance(value, _Value) and value.number == first else value

        leaf = {"is_leaf": lambda value: isinstance(value, _Value)}
        args, kwargs = pytree.tree_map(swapped, (self.args, self.kwargs), **leaf)
        return self.function(*args, **kwargs)


@dataclass(frozen=True)
class _Value:
    """Stands for a tensor among recorded arguments."""

    number: int


@dataclass
class Trace:
    """operations in order; shapes of values by their number; outputs: values that the net returned.

    users: of a value, the operations that read it. makers: of a value, the operation it came from.
    """

    operations: list[Operation] = field(default_factory=list)
    shapes: dict[int, torch.Size] = field(default_factory=dict)
    outputs: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.users: dict[int, list[Operation]] = {}
        self.makers: dict[int, Operation] = {}

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        for value in dict.fromkeys(operation.inputs):
            self.users.setdefault(value, []).append(operation)
        for value in operation.outputs:
            self.makers[value] = operation


def trace(model: nn.Module, example: Any, whole: Callable[[nn.Module], bool]) -> Trace:
    """The operations of one forward pass in evaluation mode. whole: which modules are one operation.

    example: a batch, or a tuple of arguments. Modes, buffers and random numbers are as before when it ends.
    """
    modes = [(module, module.training) for module in model.modules()]
    recorder = _Recorder(whole)
    handles = list(recorder.watch(model))
    arguments = example if isinstance(example, tuple) else (example,)
    model.eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # without gradients attention takes another path
            for tensor in _tensors(arguments):
                recorder.number(tensor)
            with recorder:
                outputs = model(*arguments)
        recorder.trace.outputs = {recorder.numbers[id(t)] for t in _tensors(outputs) if id(t) in recorder.numbers}
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return recorder.trace


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(values) if isinstance(value, Tensor)]


class _Recorder(TorchFunctionMode):
    def __init__(self, whole: Callable[[nn.Module], bool]):
        super().__init__()
        self.trace = Trace()
        self.numbers: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no two tensors of the pass have one id
        self._is_whole = whole
        self._running: list[nn.Module] = []  # innermost last
        self._inside = 0  # of modules that are one operation
        self._calls = 0

    def number(self, tensor: Tensor) -> int:
        """A new number for what this tensor holds now."""
        number = len(self._kept)
        self._kept.append(tensor)
        self.numbers[id(tensor)] = number
        self.trace.shapes[number] = tensor.shape
        return number

    def watch(self, model: nn.Module) -> Iterator[Any]:
        for module in model.modules():
            if next(module.children(), None) is None:
                yield module.register_forward_pre_hook(self._enter)
                yield module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, inputs: tuple) -> None:
        self._running.append(module)
        self._inside += self._is_whole(module)

    def _leave(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        self._running.pop()
        if self._is_whole(module):
            self._inside -= 1
            if not self._inside:
                self._add(name_of(type(module)), module, inputs, {}, output, module, whole=True, call=self._calls)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        call = self._calls
        self._calls += name_of(func) in ACTIVATIONS
        module = self._running[-1] if self._running else None
        if self._inside:
            return func(*args, **kwargs)
        before = [self.numbers.get(id(tensor)) for tensor in _tensors((args, kwargs))]
        output = func(*args, **kwargs)
        if any(number is not None for number in before) and _tensors(output):
            self._add(name_of(func), func, args, kwargs, output, module, whole=False, call=call)
        return output

    def _add(self, name: str, function: Any, args: Any, kwargs: Any, output: Any, module, *, whole: bool, call: int):
        def described(value: Any) -> Any:
            known = isinstance(value, Tensor) and id(value) in self.numbers
            return _Value(self.numbers[id(value)]) if known else value

        found = _tensors((args, kwargs))
        inputs = [self.numbers[id(tensor)] for tensor in found if id(tensor) in self.numbers]
        if not inputs:
            return
        args, kwargs = pytree.tree_map(described, (args, kwargs))
        parameters = [tensor for tensor in found if isinstance(tensor, nn.Parameter)]
        outputs = [self.number(tensor) for tensor in _tensors(output)]
        self.trace.add(Operation(name, function, args, kwargs, inputs, outputs, module, whole, call, parameters))


class Tap(nn.Module):
    """Stands for an activation that is no module of its own: the output of the call-th function in `ACTIVATIONS`."""

    def __init__(self, call: int):
        super().__init__()
        self.call = call


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
