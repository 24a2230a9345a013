"""Fully connected nets."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from lop.nets.activations import expansion, make_activation
from lop.nets.base import HiddenLayer, Net, net
from lop.nets.init import Init, linear
from lop.utils.ranges import COUNT, require_all


@net("mlp")
class MLP(Net):
    """Linear layers with one activation each, and a linear head. Inputs of any shape are flattened.

    hidden: width of each hidden layer; none makes it linear. layer_norm: a LayerNorm before each activation.
    Parameters are undefined until `lop.nets.init.initialise_` draws them.
    """

    layerwise = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        hidden: Sequence[int] = (2000, 2000, 2000),
        activation: str = "relu",
        layer_norm: bool = False,
        init: str = "kaiming_uniform",
    ):
        super().__init__()
        require_all(COUNT, hidden=hidden)
        features, rows = math.prod(input_shape), []
        body: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            incoming = linear(features, width, Init(init, activation))
            norm = nn.LayerNorm(width) if layer_norm else None
            act = make_activation(activation, width)
            body += [m for m in (incoming, norm, act) if m is not None]
            rows.append((incoming, norm, act))
            features = width * expansion(activation)
        self.head = linear(features, num_outputs, Init(init, "linear"))
        self.body = nn.Sequential(*body)
        readers = [*(incoming for incoming, _, _ in rows), self.head][1:]
        self._layers = [
            HiddenLayer(f"hidden{i}", incoming, norm, act, (reader,), expansion(activation))
            for i, ((incoming, norm, act), reader) in enumerate(zip(rows, readers, strict=True))
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def hidden_layers(self) -> list[HiddenLayer]:
        return self._layers

    def output_layer(self) -> nn.Linear:
        return self.head
