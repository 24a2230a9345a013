"""The hidden layers of any net, found by watching forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import UninitializedParameter

from lop.nets.base import HiddenLayer, Net
from lop.nets.finding import Finder
from lop.nets.found_init import remember_found
from lop.nets.probing import probing
from lop.nets.taps import NthCall, Tap
from lop.nets.tracing import Trace, trace
from lop.nets.verifying import showing
from lop.utils.errors import UserError

_FUSED = ("multi_head_attention_forward", "scaled_dot_product_attention")


def describe(model: nn.Module, example: Any) -> Described:
    """The net with its hidden layers described, for interventions and diagnostics.

    example: a batch of inputs as the model takes it, or a tuple of arguments; two examples will do.

    A hidden layer is a Linear or Conv2d, perhaps a normalisation, and an elementwise activation; its name is that of
    the Linear or Conv2d. Between them a sum may come (a residual stream). Its units can be reset only if all their
    readers are known: everything that reads its features, through dropout, pooling and reshaping, is a Linear or an
    ungrouped Conv2d that is used once, and nothing but their own calls reads the parameters of all these. Which column
    of a reader belongs to which unit is found by sending the units' numbers through what lies between. That holds in
    evaluation as in training, and is put to the test: with its outgoing weights at 0, a unit's reset leaves the outputs
    as they are. (One exception, `HiddenLayer.is_coupled`: with a LayerNorm or GroupNorm before the activation, the
    reset moves the mean and variance that all units of an example share, and through these alone the others.)

    The model is left as it is, but for its layers now knowing the distribution of the weights that they have (for
    `network_reset` and fresh units): describe it before it is trained.

    Raises UserError for an example that the model does not take, and for models whose layers cannot be watched:
    scripted, compiled or wrapped ones, and those whose weights have no values yet.
    """
    _require_watchable(model)
    arguments = example if isinstance(example, tuple) else (example,)
    with probing(model):
        traced = _traced(model, arguments)
        found = Finder(model, traced)
        layers = found.layers()
        model.train()
        try:
            trained = trace(model, arguments, is_whole)
        except (RuntimeError, ValueError):  # BatchNorm refuses a single example
            trained = None
        model.eval()
        if trained is not None:
            layers = _as_in_training(layers, found, Finder(model, trained))
        shows = set(showing(model, arguments, [layer for layer in layers if layer.outgoing]))
    for layer in shows:
        found.unread[layer.name] = "a change of its units shows in the outputs past the layers that read it"
    layers = [replace(layer, outgoing=(), pooling=None) if layer in shows else layer for layer in layers]
    remember_found(model)
    attends = any(op.name in _FUSED for op in traced.operations)
    return Described(model, layers, found.heads(), (found.undescribed(layers), found.unread), attends=attends)


class Described(Net):
    """Any model as a `Net`.

    undescribed: why a module that multiplies by a weight is no hidden layer and no head, by its name.
    not_reset: why a hidden layer's units are measured but never reset, by the layer's name.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: list[HiddenLayer],
        heads: list[nn.Linear],
        reasons: tuple[dict[str, str], dict[str, str]],
        *,
        attends: bool,
    ):
        super().__init__()
        self.model = model
        self._layers, self._heads = layers, heads
        self._attends = attends
        self.undescribed, self.not_reset = reasons

    def forward(self, *inputs: Any) -> Any:
        if not self._attends:
            return self.model(*inputs)
        with sdpa_kernel(SDPBackend.MATH):  # those that fuse attention have no second derivative
            return self.model(*inputs)

    def hidden_layers(self) -> list[HiddenLayer]:
        return self._layers

    def output_layer(self) -> nn.Linear:
        """Raises UserError where the outputs are not computed by one Linear."""
        if len(self._heads) != 1:
            raise UserError(f"net: expected one Linear that computes the outputs, found {len(self._heads)}")
        return self._heads[0]

    def output_layers(self) -> list[nn.Linear]:
        return self._heads

    def report(self) -> str:
        """What was found, a line per layer, and what was not, with the reasons."""
        lines = []
        for layer in self._layers:
            readers = (
                f"read by {len(layer.outgoing)}" if layer.outgoing else f"never reset: {self.not_reset[layer.name]}"
            )
            coupled = f"; {type(layer.norm).__name__} couples them" if layer.is_coupled else ""
            lines.append(f"{layer.name}: {layer.units} units, {readers}{coupled}")
        lines += [f"{name}: no hidden layer: {reason}" for name, reason in self.undescribed.items()]
        return "\n".join(lines)


def _require_watchable(model: nn.Module) -> None:
    for name, module in model.named_modules():
        where = name or "the model"
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise UserError(f"describe: {where} is a {type(module).__name__}: give what it wraps, its `module`")
        if "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None:
            problem = f"describe: {where} is compiled, and what goes on in it cannot be watched"
            raise UserError(f"{problem}: give it as it was before (torch.compile keeps it as `_orig_mod`)")
        if isinstance(module, torch.jit.ScriptModule) and not name:
            problem = "describe: the model is scripted (torch.jit), and what goes on in it cannot be watched"
            raise UserError(f"{problem}: give the module that it was made of")
    for name, p in model.named_parameters():
        if isinstance(p, UninitializedParameter):
            raise UserError(f"describe: {name} is made by the model's first call: call it once on the example")
        if p.is_meta:
            raise UserError(
                f"describe: {name} is on the meta device and has no values: give the model its weights first"
            )


def _traced(model: nn.Module, arguments: tuple) -> Trace:
    try:
        traced = trace(model, arguments, is_whole)
    except Exception as error:  # whatever the model raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"describe: the model does not run on the example: {reason}") from error
    if not traced.outputs:
        problem = "describe: found no tensor that depends on the example in what the model returns"
        raise UserError(f"{problem}: it should be tensors, or a tuple, dict or dataclass of them")
    return traced


def _as_in_training(layers: Sequence[HiddenLayer], found: Finder, other: Finder) -> list[HiddenLayer]:
    """The layers as far as they are the same in training: others are no layers, or their readers are not known."""
    there = {layer.incoming: layer for layer in other.layers()}
    kept = []
    for layer in layers:
        trained = there.get(layer.incoming)
        if trained is None or trained.norm is not layer.norm or not _is_same(trained.activation, layer.activation):
            found.why[layer.incoming] = "in training, another operation is its activation than in evaluation"
            continue
        outgoing, pooling = layer.outgoing, layer.pooling
        if trained.outgoing != outgoing:
            found.unread.setdefault(layer.name, "in training, others read it than in evaluation")
            outgoing, pooling = (), None
        overwritten = layer.overwritten or trained.overwritten
        kept.append(replace(layer, outgoing=outgoing, pooling=pooling, overwritten=overwritten))
    return kept


def _is_same(one: nn.Module, other: nn.Module) -> bool:
    if isinstance(one, Tap) and isinstance(other, Tap):
        return one.call == other.call
    if isinstance(one, NthCall) and isinstance(other, NthCall):
        return one.module is other.module and one.index == other.index
    return one is other


_KNOWN = (nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def is_whole(module: nn.Module) -> bool:
    """Of modules without children: whether it is one operation, as Identity and those that are not torch's own are."""
    own = type(module).__module__.startswith("torch.nn.modules")
    return type(module) is nn.Identity or not (own or isinstance(module, _KNOWN))
