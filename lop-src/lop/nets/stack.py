"""Many nets of one shape as one: parameters (S, ...), a forward pass vectorised over them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lop.nets.base import FeatureRecorder, Net
from lop.nets.batched import batch_layers, is_layerwise


class Stack(nn.Module):
    """S nets of the same class and shape, whose parameters and buffers are stacked along a new first dimension.

    The nets go on as views: their parameters and buffers keep their identity but lie in the stack's memory, so that
    whatever is read from or written to a net in place is read from or written to the stack. Each net is trained through
    the stack alone: `parameters()` are the stacked ones.

    The forward pass is that of one net, so that no net has to be written twice. Where a net is layers one after the
    other (`lop.nets.batched`), each of these is one for all members. Any other is vectorised (`torch.func.vmap`): batch
    statistics are each member's, and both derivatives can be taken; but it costs a millisecond more in every step of an
    MLP on a CPU, and has gradients that lie in memory transposed, which makes a step of wide layers half as long again.
    """

    def __init__(self, nets: Sequence[Net]):
        super().__init__()
        self.nets = list(nets)
        self.net = copy.deepcopy(nets[0])  # the one that is vectorised: it holds the stacked parameters
        for module in self.net.modules():
            module._forward_hooks.clear()  # of whoever watches the first net
        self._recorder = FeatureRecorder(self.net.hidden_layers())
        self.recording = False
        self.features: list[Tensor] = []
        self._parameters_of = self._stack("_parameters")
        self._buffers_of = self._stack("_buffers")
        self._layerwise = is_layerwise(self.net)
        if self._layerwise:
            batch_layers(self.net)

    def _stack(self, kind: str) -> dict[Tensor, list[Tensor]]:
        """Replaces the net's tensors of this kind; returns those of the members, by the stacked one."""
        done: dict[int, Tensor] = {}
        found: dict[Tensor, list[Tensor]] = {}
        members = [list(net.modules()) for net in self.nets]
        for place, module in enumerate(self.net.modules()):
            tensors = getattr(module, kind)
            for name, own in tensors.items():
                if own is None:
                    continue
                if id(own) not in done:  # a tensor may belong to several modules
                    theirs = [getattr(modules[place], kind)[name] for modules in members]
                    values = torch.stack([t.detach() for t in theirs])
                    stacked = nn.Parameter(values, own.requires_grad) if kind == "_parameters" else values
                    done[id(own)], found[stacked] = stacked, theirs
                    _point(theirs, stacked)
                tensors[name] = done[id(own)]
        return found

    def owners(self, parameter: Tensor) -> list[Tensor]:
        """The members' own parameters that a stacked one is made of."""
        return self._parameters_of[parameter]

    def follow(self) -> None:
        """The members' parameters lie where the stacked ones' values are now (a perturbed pass has them elsewhere)."""
        for stacked, theirs in self._parameters_of.items():
            if theirs[0].data_ptr() != stacked.data_ptr():
                _point(theirs, stacked)

    def release(self, index: int) -> None:
        """This net has memory of its own again, and is trained here no further."""
        for theirs in (*self._parameters_of.values(), *self._buffers_of.values()):
            theirs[index].data = theirs[index].data.clone()

    def forward(self, x: Tensor) -> Tensor:
        """x: (S, batch, ...) -> (S, batch, outputs).

        While `recording`, `features` becomes the hidden layers' activations, detached, (S, batch, ...) each.
        """
        if self._layerwise:
            return self._all(x)
        parameters: dict[str, Tensor] = dict(self.net.named_parameters())
        tensors = parameters, dict(self.net.named_buffers())
        outputs, features = vmap(self._one, in_dims=(0, 0))(tensors, x)
        if self.recording:
            self.features = features
        return outputs

    def _all(self, x: Tensor) -> Tensor:
        if not self.recording:
            return self.net(x)
        with self._recorder:
            outputs = self.net(x)
        self.features = list(self._recorder.features)
        return outputs

    def _one(self, tensors: tuple[dict[str, Tensor], ...], x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One net's forward pass, inside the vectorised one: features must leave it as results."""
        if not self.recording:
            return functional_call(self.net, tensors, (x,)), []
        with self._recorder:
            outputs = functional_call(self.net, tensors, (x,))
        features, empty = self._recorder.features, torch.empty(0)
        self._recorder.features = [empty] * len(features)  # what is vectorised must not outlive the pass
        return outputs, features


def _point(theirs: Sequence[Tensor], stacked: Tensor) -> None:
    for tensor, value in zip(theirs, stacked.detach().unbind(), strict=True):
        tensor.data = value


def shape_of(net: nn.Module) -> tuple:
    """Equal for nets that can be stacked: the kinds of their modules with their options, and all tensors' shapes."""
    modules = [(type(m), _options(m)) for m in net.modules()]
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return modules, [(name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in tensors]


def _options(module: nn.Module) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in vars(module).items() if isinstance(v, int | float | str | tuple | type(None))]
