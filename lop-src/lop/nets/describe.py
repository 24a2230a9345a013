"""The hidden layers of any net, found by watching one forward pass."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lop.nets.base import HiddenLayer, Net
from lop.nets.finding import Finder
from lop.nets.found_init import remember_found
from lop.nets.tracing import trace
from lop.utils.errors import UserError


def describe(model: nn.Module, example: Any) -> Described:
    """The net with its hidden layers described, for interventions and diagnostics.

    example: a batch of inputs as the model takes it, or a tuple of arguments; one or two examples will do.

    A hidden layer is a Linear or Conv2d, perhaps a normalisation, and an elementwise activation; its name is that of
    the Linear or Conv2d. Between them a sum may come (a residual stream). Its readers are known where everything that
    reads its features, through dropout, pooling and reshaping, is a Linear or an ungrouped Conv2d that is used once:
    only then can its units be reset. Which column of a reader belongs to which unit is found by sending the units'
    numbers through what lies between. The model is not changed, but for its layers now knowing the distribution of the
    weights that they have (for `network_reset` and fresh units): describe it before it is trained.

    Raises UserError for an example that the model does not take.
    """
    try:
        traced = trace(model, example, _is_whole)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"describe: the model does not run on the example: {reason}") from error
    found = Finder(model, traced)
    layers = found.layers()
    remember_found(model)
    return Described(model, layers, found.heads(), found.reasons(layers))


class Described(Net):
    """Any model as a `Net`.

    undescribed: why a Linear or Conv2d is no hidden layer and no head, by the module's name.
    not_reset: why a hidden layer's units are measured but never reset, by the layer's name.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: list[HiddenLayer],
        heads: list[nn.Linear],
        reasons: tuple[dict[str, str], dict[str, str]],
    ):
        super().__init__()
        self.model = model
        self._layers, self._heads = layers, heads
        self._attends = any(isinstance(module, nn.MultiheadAttention) for module in model.modules())
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
            lines.append(f"{layer.name}: {layer.units} units, {readers}")
        lines += [f"{name}: no hidden layer: {reason}" for name, reason in self.undescribed.items()]
        return "\n".join(lines)


_KNOWN = (nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def _is_whole(module: nn.Module) -> bool:
    """Modules without children that are one operation: Identity, and those that are not torch's own."""
    own = type(module).__module__.startswith("torch.nn.modules")
    return type(module) is nn.Identity or not (own or isinstance(module, _KNOWN))
