"""From the operations of one forward pass to hidden layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lop.nets.base import HiddenLayer
from lop.nets.layer_io import WeightLayer
from lop.nets.tracing import ACTIVATIONS, Operation, Tap, Trace

NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
ADDITIONS = ("add", "iadd", "radd")
DROPOUT = ("dropout", "dropout1d", "dropout2d", "feature_dropout", "alpha_dropout")
RESHAPING = ("Identity", "contiguous", "clone", "flatten", "view", "reshape", "squeeze", "unsqueeze")
MOVING = ("to", "float", "permute", "transpose", "movedim", "getitem", "pad", "interpolate")
POOLING = ("mean", "amax", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
KEEPING = frozenset((*DROPOUT, *RESHAPING, *MOVING, *POOLING, "max_pool2d_with_indices"))
"""What may come between features and their readers: it moves or pools values of a unit, and mixes no two units."""


@dataclass
class _Found:
    """A candidate: what computes the units, and the operations up to its features."""

    name: str
    module: WeightLayer
    weight: Operation
    norm: nn.Module | None
    activation: Operation
    expansion: int
    added: bool
    depth: int


class Finder:
    """What a traced net is made of. model: the one that was traced; reasons are by its modules' names."""

    def __init__(self, model: nn.Module, traced: Trace):
        self.trace = traced
        self.names = {m: name for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        owners = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
        self._module_of = {id(m.weight): m for m in self.names if owners[id(m.weight)] == 1}
        self._shared = {m for m in self.names if owners[id(m.weight)] > 1}
        self.weights = [op for op in traced.operations if self.layer_of(op) is not None]
        self._uses = Counter(self.layer_of(op) for op in self.weights)
        self._module_calls = Counter(op.module for op in traced.operations if op.module is not None)
        self._like = next(model.parameters(), torch.empty(0))  # numbers that are sent through are like these
        self._why: dict[nn.Module, str] = {}
        self._unread: dict[str, str] = {}

    def layer_of(self, op: Operation) -> WeightLayer | None:
        """The module whose weight this operation multiplies its input by."""
        if op.name not in ("linear", "conv2d") or len(op.inputs) != 1:
            return None
        return next((self._module_of[id(p)] for p in op.parameters if id(p) in self._module_of), None)

    def layers(self) -> list[HiddenLayer]:
        found = [one for op in self.weights if (one := self._candidate(op)) is not None]
        main: dict[Operation, _Found] = {}  # several are added up before one activation: the deepest is the main path
        for one in found:
            known = main.get(one.activation)
            if known is None or one.depth > known.depth:
                main[one.activation] = one
        for one in found:
            if main[one.activation] is not one:
                self._why[one.module] = f"its outputs are added to those of {main[one.activation].name}"
        order = {op: i for i, op in enumerate(self.trace.operations)}
        kept = sorted((one for one in found if main[one.activation] is one), key=lambda one: order[one.weight])
        return [self._layer(one) for one in kept]

    def heads(self) -> list[nn.Linear]:
        """The Linears whose outputs, at most reshaped or put together, are the net's."""
        return [
            layer
            for op in self.weights
            if isinstance(layer := self.layer_of(op), nn.Linear) and self._leads_out(op.outputs[0])
        ]

    def _leads_out(self, value: int) -> bool:
        if value in self.trace.outputs:
            return True
        passed = [op for op in self.trace.users.get(value, []) if op.name in KEEPING or op.name in ("cat", "concat")]
        return any(self._leads_out(op.outputs[0]) for op in passed)

    def reasons(self, layers: list[HiddenLayer]) -> tuple[dict[str, str], dict[str, str]]:
        """(undescribed, not_reset) of `Described`."""
        known = {layer.incoming for layer in layers} | set(self.heads())
        undescribed = {}
        for module, name in self.names.items():
            if module in known:
                continue
            if module in self._shared:
                undescribed[name] = "its weight belongs to several modules"
            elif module in self._why:
                undescribed[name] = self._why[module]
            else:
                undescribed[name] = "it is not called as a layer of its own, or its weight is computed"
        return undescribed, self._unread

    # ------------------------------------------------------------------ from a weight to its features

    def _candidate(self, op: Operation) -> _Found | None:
        module = self.layer_of(op)
        assert module is not None  # as `weights` holds no others
        if self._uses[module] > 1:
            self._why[module] = f"it is used {self._uses[module]} times in a forward pass"
            return None
        name, value = self.names[module], op.outputs[0]
        norm: nn.Module | None = None
        added, identity = False, None
        while True:
            users = self.trace.users.get(value, [])
            if value in self.trace.outputs or len(users) != 1:
                self._why[module] = "its outputs leave the net, or are read in several ways, before an activation"
                return None
            user = users[0]
            expansion = self._expansion(user, value, op)
            if expansion:
                if user.whole and type(user.module) is nn.Identity:
                    identity = identity or user
                else:
                    return _Found(name, module, op, norm, user, expansion, added, self._depth(op))
            elif user.name in NORMS and norm is None and not added and user.module is not None:
                norm = user.module
                if self._module_calls[norm] > 1:
                    self._why[module] = f"its normalisation is used {self._module_calls[norm]} times in a forward pass"
                    return None
            elif user.name in ADDITIONS and len(set(user.inputs)) > 1:
                added = True
            elif identity is not None:  # a linear layer: nothing but an Identity stands where its activation would
                return _Found(name, module, op, norm, identity, 1, added, self._depth(op))
            elif user.name not in KEEPING or len(user.inputs) != 1 or not self._same_units(user, op):
                self._why[module] = f"no elementwise activation follows it: {user.name} reads its outputs"
                return None
            value = user.outputs[0]

    def _same_units(self, op: Operation, weight: Operation) -> bool:
        shape, before = self.trace.shapes[op.outputs[0]], self.trace.shapes[weight.outputs[0]]
        dim = self._unit_dim(weight)
        return len(shape) == len(before) and shape[dim] == before[dim]

    def _unit_dim(self, weight: Operation) -> int:
        return 1 if weight.name == "conv2d" else len(self.trace.shapes[weight.outputs[0]]) - 1

    def _expansion(self, op: Operation, value: int, weight: Operation) -> int:
        """Features per unit of an elementwise activation; 0: it is none."""
        if not op.whole:
            return int(op.name in ACTIVATIONS and op.inputs[0] == value and len(op.inputs) == 1)
        if type(op.module) is nn.Identity:
            return 1
        return _features_per_unit(op, self.trace.shapes[value], self._unit_dim(weight), self._like)

    def _depth(self, op: Operation) -> int:
        """How many weights what it reads depends on."""
        frontier, visited = [op.inputs[0]], set()
        while frontier:
            maker = self.trace.makers.get(frontier.pop())
            if maker is not None and maker not in visited:
                visited.add(maker)
                frontier += maker.inputs
        return len(visited & set(self.weights))

    # ------------------------------------------------------------------ from features to their readers

    def _layer(self, found: _Found) -> HiddenLayer:
        features = found.activation.outputs[0]
        readers, chain, why = self._readers(features, found)
        if why is not None:
            self._unread[found.name] = why
        units_last = self._unit_dim(found.weight) > 1 and len(self.trace.shapes[features]) > 2
        module = found.activation.module
        own = module is not None and self._module_calls[module] == 1
        activation = module if own else Tap(found.activation.call)
        assert activation is not None
        pooling = _pooling(chain)
        if units_last and pooling is not None:
            readers, pooling = (), None
            self._unread[found.name] = "what lies between a sequence's features and their readers is more than dropout"
        return HiddenLayer(
            found.name, found.module, found.norm, activation, readers, found.expansion, pooling, units_last
        )

    def _readers(self, features: int, found: _Found) -> tuple[tuple[WeightLayer, ...], list[Operation], str | None]:
        """(readers, operations before them, why they are not all known)."""
        if found.added:
            return (), [], "its units lie on a residual stream, which every later layer reads"
        ways: list[tuple[WeightLayer, list[Operation]]] = []
        for op, chain in self._ways(features, []):
            if op is None:
                return (), [], "its features are the net's outputs"
            layer = self.layer_of(op)
            if layer is None or op.inputs[0] not in {features, *(c.outputs[0] for c in chain)}:
                return (), [], f"its features are read by {op.name}"
            if self._uses[layer] > 1:
                return (), [], f"{self.names[layer]}, which reads it, is used several times"
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                return (), [], f"{self.names[layer]}, which reads it, is a grouped convolution"
            ways.append((layer, chain))
        if not ways:
            return (), [], "nothing reads its features"
        chain = ways[0][1]
        if any(_pooling_operations(other) != _pooling_operations(chain) for _, other in ways):
            return (), [], "its readers read it in different forms"
        for layer, way in ways:
            if not self._unit_by_unit(features, found, layer, way):
                return (), [], f"{self.names[layer]} does not read its units one after the other"
        return tuple(layer for layer, _ in ways), chain, None

    def _ways(self, value: int, chain: list[Operation]) -> Iterator[tuple[Operation | None, list[Operation]]]:
        if value in self.trace.outputs:
            yield None, chain
        for op in self.trace.users.get(value, []):
            if op.name in KEEPING and len(op.inputs) == 1 and len(op.outputs) >= 1:
                yield from self._ways(op.outputs[0], [*chain, op])
            else:
                yield op, chain

    def _unit_by_unit(self, features: int, found: _Found, reader: WeightLayer, chain: list[Operation]) -> bool:
        """Whether the reader's columns are the units' in order, each with all its positions: what `HiddenLayer` means.

        The units' numbers are sent through what lies between: pooling and reshaping move them, and nothing else.
        """
        shape = self.trace.shapes[features]
        dim = self._unit_dim(found.weight)
        numbers = torch.arange(
            shape[dim], dtype=torch.float64, device=self._like.device
        )  # no two units may round alike
        labels = numbers.view(-1, *[1] * (len(shape) - 1 - dim))
        x = labels.expand(shape).clone()
        for op in chain:
            x = x if op.name in DROPOUT else _tensor(op.replayed(x))
        if isinstance(reader, nn.Conv2d):
            x = x.movedim(1, -1)
        columns = x.reshape(-1, x.shape[-1])
        positions, rest = divmod(columns.shape[1], shape[dim])
        if rest:
            return False
        return bool(((columns - numbers.repeat_interleave(positions)).abs() < 1e-2).all())


def _tensor(value: Any) -> Tensor:
    return value[0] if isinstance(value, tuple) else value


@torch.no_grad()
def _features_per_unit(op: Operation, shape: torch.Size, dim: int, like: Tensor) -> int:
    """Of a module: k when its output has k features per unit, output j depending on unit j mod units alone; else 0.

    Tried on numbers: for each bit of a unit's number, the units with it are changed, then those without it.
    """
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator).to(like)

    x = noise()
    try:
        before = op.function(x)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return 0
    units = shape[dim]
    if not isinstance(before, Tensor) or before.dim() != len(shape) or before.shape[dim] % units:
        return 0
    number = torch.arange(units, device=like.device)
    for bit in range(max(1, (units - 1).bit_length())):
        for chosen in ((number >> bit & 1).bool(), ~(number >> bit & 1).bool()):
            mask = chosen.view(-1, *[1] * (len(shape) - 1 - dim))
            after = op.function(torch.where(mask, x + noise(), x))
            others = (~chosen).repeat(before.shape[dim] // units).nonzero().squeeze(1)
            if not torch.equal(after.index_select(dim, others), before.index_select(dim, others)):
                return 0
    return before.shape[dim] // units


def _pooling_operations(chain: list[Operation]) -> list[Operation]:
    """What changes values between the features and their readers; dropout and reshaping do not."""
    return [op for op in chain if op.name not in RESHAPING + DROPOUT]


def _pooling(chain: list[Operation]) -> nn.Module | None:
    operations = _pooling_operations(chain)
    if len(operations) == 1 and operations[0].module is not None:
        return operations[0].module
    return Replay(operations) if operations else None


class Replay(nn.Module):
    """Recorded operations, one after the other."""

    def __init__(self, operations: list[Operation]):
        super().__init__()
        self._operations = operations

    def forward(self, x: Tensor) -> Tensor:
        for op in self._operations:
            x = _tensor(op.replayed(x))
        return x
