"""From the operations of one forward pass to hidden layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from lop.nets.base import HiddenLayer
from lop.nets.following import (
    KEEPING,
    features_per_unit,
    fits_any_batch,
    pooling_of,
    pooling_operations,
    read_in_order,
    stays,
)
from lop.nets.layer_io import WeightLayer
from lop.nets.taps import ACTIVATIONS, NthCall, Tap
from lop.nets.tracing import Operation, Trace

CHANNELS_FIRST = ("batch_norm", "group_norm", "instance_norm")
NORMS = (*CHANNELS_FIRST, "layer_norm", "rms_norm")
ADDITIONS = ("add", "iadd", "radd")
_OTHERS = (nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.Bilinear, nn.MultiheadAttention)


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


class _NoLayerError(Exception):
    """Why a Linear or Conv2d is no hidden layer."""


class Finder:
    """What a traced net is made of. model: the one that was traced; reasons are by its modules' names."""

    def __init__(self, model: nn.Module, traced: Trace):
        self.trace = traced
        self._modules = dict(model.named_modules())
        self.names = {m: name for name, m in self._modules.items() if isinstance(m, nn.Linear | nn.Conv2d)}
        self._owners = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
        self.weights = [op for op in traced.operations if op.layer is not None and self._is_own(op.layer)]
        self._uses = Counter(op.layer for op in self.weights)
        self._calls: dict[nn.Module, list[Operation]] = {}
        for op in traced.operations:
            if op.module is not None and (op.whole or op.name in NORMS or op.name in ACTIVATIONS):
                self._calls.setdefault(op.module, []).append(op)
        self._like = next(model.parameters(), torch.empty(0))  # numbers that are sent through are like these
        self.why: dict[nn.Module, str] = {}
        self.unread: dict[str, str] = {}

    def _is_own(self, module: nn.Module) -> bool:
        """Whether its parameters belong to no other module."""
        return all(self._owners[id(p)] == 1 for p in module._parameters.values() if p is not None)

    def _stray(self, *modules: nn.Module | None) -> str | None:
        """Who else reads the parameters of these modules, than they themselves."""
        own = [p for module in modules if module is not None for p in module._parameters.values() if p is not None]
        return next((self.trace.strays[id(p)] for p in own if id(p) in self.trace.strays), None)

    def layers(self) -> list[HiddenLayer]:
        found = []
        for op in self.weights:
            try:
                found.append(self._candidate(op))
            except _NoLayerError as reason:
                assert op.layer is not None  # as `weights` holds no others
                self.why[op.layer] = str(reason)
        main: dict[Operation, _Found] = {}  # several are added up before one activation: the deepest is the main path
        for one in found:
            known = main.get(one.activation)
            if known is None or one.depth > known.depth:
                main[one.activation] = one
        for one in found:
            if main[one.activation] is not one:
                self.why[one.module] = f"its outputs are added to those of {main[one.activation].name}"
        order = {op: i for i, op in enumerate(self.trace.operations)}
        kept = sorted((one for one in found if main[one.activation] is one), key=lambda one: order[one.weight])
        return [self._layer(one) for one in kept]

    def heads(self) -> list[nn.Linear]:
        """The Linears whose outputs, at most reshaped or put together, are the net's."""
        return [op.layer for op in self.weights if isinstance(op.layer, nn.Linear) and self._leads_out(op.outputs[0])]

    def _leads_out(self, value: int) -> bool:
        if value in self.trace.outputs:
            return True
        passed = [op for op in self.trace.users.get(value, []) if op.name in KEEPING or op.name in ("cat", "concat")]
        return any(self._leads_out(op.outputs[0]) for op in passed)

    def undescribed(self, layers: list[HiddenLayer]) -> dict[str, str]:
        """Of `Described`: why modules are none of these layers, and no head."""
        known = {layer.incoming for layer in layers} | set(self.heads())
        reasons: dict[str, str] = {}
        for name, module in self._modules.items():
            if module in known:
                continue
            if isinstance(module, torch.jit.ScriptModule):
                if name.rpartition(".")[0] not in reasons:  # not once more for what lies in it
                    reasons[name] = "it is scripted (torch.jit), and what goes on in it cannot be watched"
            elif module not in self.names:
                if isinstance(module, _OTHERS):
                    reasons[name] = f"it is a {type(module).__name__}, neither Linear nor Conv2d"
            elif module in self.why:
                reasons[name] = self.why[module]
            elif not self._is_own(module):
                reasons[name] = "its weight or bias belongs to several modules"
            else:
                reasons[name] = "it is not called as a layer of its own, or its weight is computed"
        return reasons

    # ------------------------------------------------------------------ from a weight to its features

    def _candidate(self, op: Operation) -> _Found:
        module = op.layer
        assert module is not None  # as `weights` holds no others
        if self._uses[module] > 1:
            raise _NoLayerError(f"it is used {self._uses[module]} times in a forward pass")
        if len(self.trace.shapes[op.outputs[0]]) < (4 if isinstance(module, nn.Conv2d) else 2):
            raise _NoLayerError("its outputs have no dimension of examples")
        value = op.outputs[0]
        path: list[Operation] = []
        norm: nn.Module | None = None
        added, identity = False, None

        def found(activation: Operation, expansion: int) -> _Found:
            shape = self.trace.shapes[op.outputs[0]]
            if not stays(path, shape, self._unit_dim(op), self._like.device):
                raise _NoLayerError("its outputs are moved before the activation")
            return _Found(self.names[module], module, op, norm, activation, expansion, added, self._depth(op))

        while True:
            users = self.trace.users.get(value, [])
            if value in self.trace.outputs or len(users) != 1:
                raise _NoLayerError("its outputs leave the net, or are read in several ways, before an activation")
            user = users[0]
            if len(user.outputs) != 1 or any(self._is_used(alias) for alias in user.aliases):
                raise _NoLayerError(f"no elementwise activation follows it: {user.name} reads its outputs")
            expansion = self._expansion(user, value, op)
            if expansion and not (user.whole and type(user.module) is nn.Identity):
                return found(user, expansion)
            if expansion:
                identity = identity or user
            elif user.name in NORMS and norm is None and not added and user.module is not None:
                norm = self._checked_norm(user, op)
            elif user.name in ADDITIONS and len(user.inputs) > 1 and self._same_shape(user, value):
                added = True
            elif identity is not None:  # a linear layer: nothing but an Identity stands where its activation would
                return found(identity, 1)
            elif user.name in KEEPING and len(user.inputs) == 1:
                path.append(user)
            else:
                raise _NoLayerError(f"no elementwise activation follows it: {user.name} reads its outputs")
            value = user.outputs[0]

    def _checked_norm(self, op: Operation, weight: Operation) -> nn.Module:
        """The normalisation's module, if it has numbers per unit and is this layer's alone."""
        norm = op.module
        assert norm is not None  # as the caller has seen
        if len(self._calls[norm]) > 1:
            raise _NoLayerError(f"its normalisation is used {len(self._calls[norm])} times in a forward pass")
        dim, shape = self._unit_dim(weight), self.trace.shapes[weight.outputs[0]]
        own = [t for t in (*norm._parameters.values(), *norm._buffers.values()) if t is not None and t.dim()]
        along = dim == 1 if op.name in CHANNELS_FIRST else dim == len(shape) - 1
        per_unit = all(t.shape == (shape[dim],) for t in own) and not (own and not along)
        if not per_unit or not self._is_own(norm):
            raise _NoLayerError("its normalisation has no numbers of its own for each unit")
        return norm

    def _is_used(self, value: int) -> bool:
        return value in self.trace.outputs or value in self.trace.users

    def _same_shape(self, op: Operation, value: int) -> bool:
        return self.trace.shapes[op.outputs[0]] == self.trace.shapes[value]

    def _unit_dim(self, weight: Operation) -> int:
        return 1 if weight.name == "conv2d" else len(self.trace.shapes[weight.outputs[0]]) - 1

    def _expansion(self, op: Operation, value: int, weight: Operation) -> int:
        """Features per unit of an elementwise activation; 0: it is none."""
        if len(op.inputs) != 1:
            return 0
        if not op.whole:
            return int(op.name in ACTIVATIONS)
        if type(op.module) is nn.Identity:
            return 1
        if len(op.args) != 1 or op.kwargs:
            return 0
        return features_per_unit(op, self.trace.shapes[value], self._unit_dim(weight), self._like)

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
        units_last = self._unit_dim(found.weight) > 1 and len(self.trace.shapes[features]) > 2
        readers: tuple[WeightLayer, ...] = ()
        pooling = None
        try:
            readers, operations = self._readers(features, found)
            if operations and units_last:
                raise _NoLayerError("what lies between a sequence's features and their readers is more than dropout")
            if not fits_any_batch(operations):
                raise _NoLayerError("what lies between its features and their readers depends on the batch's size")
            pooling = pooling_of(operations)
        except _NoLayerError as reason:
            readers, self.unread[found.name] = (), str(reason)
        return HiddenLayer(
            found.name,
            found.module,
            found.norm,
            self._activation(found.activation),
            readers,
            found.expansion,
            pooling,
            units_last,
            features in self.trace.overwritten,
        )

    def _activation(self, op: Operation) -> nn.Module:
        """What stands for it in a `HiddenLayer`."""
        if op.module is None:
            return Tap(op.call)
        calls = self._calls[op.module]
        return op.module if len(calls) == 1 else NthCall(op.module, calls.index(op))

    def _readers(self, features: int, found: _Found) -> tuple[tuple[WeightLayer, ...], list[Operation]]:
        """(readers, operations before them); raises where they are not all known."""
        if found.added:
            raise _NoLayerError("its units lie on a residual stream, which every later layer reads")
        if stray := self._stray(found.module, found.norm, found.activation.module):
            raise _NoLayerError(f"{stray} reads its parameters, too")
        if found.activation.module is not None and not self._is_own(found.activation.module):
            raise _NoLayerError("its activation's parameters belong to several modules")
        ways: list[tuple[WeightLayer, list[Operation]]] = []
        for op, chain in self._ways(features, []):
            if op is None:
                raise _NoLayerError("its features are the net's outputs")
            layer = op.layer
            if layer is None or not self._is_own(layer):
                raise _NoLayerError(f"its features are read by {op.name}")
            name = self.names[layer]
            if self._uses[layer] > 1:
                raise _NoLayerError(f"{name}, which reads it, is used several times")
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                raise _NoLayerError(f"{name}, which reads it, is a grouped convolution")
            if stray := self._stray(layer):
                raise _NoLayerError(f"{stray} reads the parameters of {name}, which reads it")
            ways.append((layer, chain))
        if not ways:
            raise _NoLayerError("nothing reads its features")
        chain = pooling_operations(ways[0][1])
        if any(pooling_operations(other) != chain for _, other in ways):
            raise _NoLayerError("its readers read it in different forms")
        shape, dim = self.trace.shapes[features], self._unit_dim(found.weight)
        for layer, way in ways:
            if not read_in_order(way, shape, dim, layer, self._like.device):
                raise _NoLayerError(f"{self.names[layer]} does not read its units one after the other")
        return tuple(layer for layer, _ in ways), chain

    def _ways(self, value: int, chain: list[Operation]) -> Iterator[tuple[Operation | None, list[Operation]]]:
        """Every operation that reads it, with what lies between; None where it is the net's output."""
        if value in self.trace.outputs:
            yield None, chain
        maker = self.trace.makers[value]
        beside = [one for one in (*maker.outputs, *maker.aliases) if one != value]
        if any(map(self._is_used, beside)):  # indices of maxima, views into memory that it has overwritten
            yield maker, chain
        for op in self.trace.users.get(value, []):
            if op.name in KEEPING and len(op.inputs) == 1 and op.outputs:
                yield from self._ways(op.outputs[0], [*chain, op])
            else:
                yield op, chain
