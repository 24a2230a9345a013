"""Residual nets for small images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from lop.nets.activations import expansion, make_activation
from lop.nets.base import HiddenLayer, Net, net, require_images
from lop.nets.init import Init, conv2d, linear
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require, require_all


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm around a shortcut (He 2016); the shortcut is 1x1 where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str, init: Init):
        super().__init__()
        self.conv1 = conv2d(in_channels, out_channels, 3, init, stride=stride, padding=1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.act1 = make_activation(activation, out_channels)
        self.conv2 = conv2d(out_channels, out_channels, 3, init, padding=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.act2 = make_activation(activation, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv2d(in_channels, out_channels, 1, init, stride=stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act1(self.norm1(self.conv1(x)))
        return self.act2(self.norm2(self.conv2(inner)) + self.shortcut(x))


@net("resnet18")
class ResNet18(Net):
    """ResNet-18 for 32x32 images (He 2016): 3x3 stem without max-pool, convolutions with biases, average pooling.

    width: channels of the first stage; each further stage doubles them and halves the image. blocks: per stage.
    The units inside a block are read by its second convolution alone. Those on the residual stream (the stem and
    the blocks' outputs) are read by every later block. residual_readers: "none" gives them no `outgoing`, so that they
    are measured but never reset; "next" gives them the next convolution of the main path alone (the last ones the
    head), as the continual backprop of Dohare et al. 2024 does, which so replaces units in all 17 layers: what the
    shortcuts and the later blocks read of a replaced unit changes at once.
    Parameters are undefined until `lop.nets.init.initialise_` draws them.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        activation: str = "relu",
        init: str = "kaiming_normal",
        residual_readers: Literal["none", "next"] = "none",
    ):
        super().__init__()
        require_images(input_shape)
        require(COUNT, width=width)
        require_all(COUNT, blocks=blocks)
        if not blocks:
            raise UserError("must hold one number or more, got none", option="blocks")
        if expansion(activation) != 1:
            raise UserError(
                f"must keep the number of channels in a residual net, got {activation!r}", option="activation"
            )
        draw = Init(init, activation)
        self.stem = conv2d(input_shape[0], width, 3, draw, padding=1)
        self.stem_norm = nn.BatchNorm2d(width)
        self.stem_act = make_activation(activation, width)
        self._layers = [HiddenLayer("stem", self.stem, self.stem_norm, self.stem_act, ())]
        channels, body = width, []
        for stage, count in enumerate(blocks):
            for i in range(count):
                out_channels, stride = width * 2**stage, 2 if stage and i == 0 else 1
                block = BasicBlock(channels, out_channels, stride, activation, draw)
                name = f"stage{stage}.block{i}"
                self._layers += [
                    HiddenLayer(f"{name}.inner", block.conv1, block.norm1, block.act1, (block.conv2,)),
                    HiddenLayer(f"{name}.out", block.conv2, block.norm2, block.act2, ()),
                ]
                body.append(block)
                channels = out_channels
        self.body = nn.Sequential(*body)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = linear(channels, num_outputs, Init(init, "linear"))
        if residual_readers == "next":
            self._layers = self._with_next_readers()

    def _with_next_readers(self) -> list[HiddenLayer]:
        """The layers, each read by the convolution after it; the last by the head, through the pooling."""
        readers = [layer.incoming for layer in self._layers[1:]] + [self.head]
        layers = [replace(layer, outgoing=(reader,)) for layer, reader in zip(self._layers, readers, strict=True)]
        return [*layers[:-1], replace(layers[-1], pooling=self.pool)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_act(self.stem_norm(self.stem(x)))
        return self.head(self.pool(self.body(x)))

    def hidden_layers(self) -> list[HiddenLayer]:
        return self._layers

    def output_layer(self) -> nn.Linear:
        return self.head
