"""Convolutional nets: blocks of convolution, activation and 2 x 2 max-pooling, then fully connected layers."""

import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from lop.nets.activations import expansion, make_activation
from lop.nets.base import HiddenLayer, Net, net, require_images
from lop.nets.init import Init, conv2d, linear
from lop.nets.layer_io import WeightLayer
from lop.utils.errors import UserError, shown
from lop.utils.ranges import COUNT, require_all


@net("convnet")
class ConvNet(Net):
    """Continual ImageNet's net (Dohare 2024): conv 5x5x32, 3x3x64, 3x3x128, each with max-pool, then 128, 128, head.

    channels, kernel_sizes: one entry per convolution (unpadded, stride 1). hidden: widths of the fully connected
    layers. conv_activation: of the convolutions, where it is another than that of the fully connected layers; "linear":
    only pooling comes between them, as in label-permuted CIFAR-10's LeNet (Elsayed & Mahmood 2024). layer_norm: over
    the channels and pixels of each image, or the features, before each activation.
    Parameters are undefined until `lop.nets.init.initialise_` draws them.
    """

    pooled: ClassVar[bool] = True
    """Whether 2 x 2 max-pooling follows each convolution."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        channels: Sequence[int] = (32, 64, 128),
        kernel_sizes: Sequence[int] = (5, 3, 3),
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        conv_activation: str | None = None,
        layer_norm: bool = False,
        init: str = "torch_default",
    ):
        super().__init__()
        require_images(input_shape)
        if len(kernel_sizes) != len(channels) or not channels:
            raise UserError(
                f"must have one entry per entry of channels, got {shown(list(kernel_sizes))}", option="kernel_sizes"
            )
        require_all(COUNT, channels=channels, kernel_sizes=kernel_sizes, hidden=hidden)
        body: list[nn.Module] = []
        rows: list[tuple[WeightLayer, nn.Module | None, nn.Module, int, nn.Module | None]] = []

        def add(name: str, incoming: WeightLayer, norm: nn.Module | None, pooling: nn.Module | None = None) -> None:
            act = make_activation(name, len(incoming.weight))
            body.extend(m for m in (incoming, norm, act, pooling) if m is not None)
            rows.append((incoming, norm, act, expansion(name), pooling))

        features, *size = input_shape
        conv_activation = conv_activation or activation
        for width, kernel in zip(channels, kernel_sizes, strict=True):
            size = [(side - kernel + 1) // (2 if self.pooled else 1) for side in size]
            if min(size) < 1:
                raise UserError(
                    f"{list(kernel_sizes)} leave nothing of images {tuple(input_shape)}", option="kernel_sizes"
                )
            norm = nn.GroupNorm(1, width) if layer_norm else None
            pooling = nn.MaxPool2d(2) if self.pooled else None
            add(conv_activation, conv2d(features, width, kernel, Init(init, conv_activation)), norm, pooling)
            features = width * expansion(conv_activation)
        body.append(nn.Flatten())
        features *= math.prod(size)
        for width in hidden:
            normed = nn.LayerNorm(width) if layer_norm else None
            add(activation, linear(features, width, Init(init, activation)), normed)
            features = width * expansion(activation)
        self.body = nn.Sequential(*body)
        self.head = linear(features, num_outputs, Init(init, "linear"))
        readers = [incoming for incoming, *_ in rows[1:]] + [self.head]
        self._layers = [
            HiddenLayer(f"hidden{i}", incoming, norm, act, (reader,), wide, pooling)
            for i, ((incoming, norm, act, wide, pooling), reader) in enumerate(zip(rows, readers, strict=True))
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def hidden_layers(self) -> list[HiddenLayer]:
        return self._layers

    def output_layer(self) -> nn.Linear:
        return self.head


@net("cnn")
class CNN(ConvNet):
    """L2 Init's net (Kumar 2023): conv 5x5x16 with max-pool, twice, then 100, 100, head. Options as ConvNet's."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        channels: Sequence[int] = (16, 16),
        kernel_sizes: Sequence[int] = (5, 5),
        hidden: Sequence[int] = (100, 100),
        activation: str = "relu",
        conv_activation: str | None = None,
        layer_norm: bool = False,
        init: str = "torch_default",
    ):
        super().__init__(
            input_shape,
            num_outputs,
            channels=channels,
            kernel_sizes=kernel_sizes,
            hidden=hidden,
            activation=activation,
            conv_activation=conv_activation,
            layer_norm=layer_norm,
            init=init,
        )
