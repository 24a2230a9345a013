"""A vision transformer small enough for small images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lop.nets.activations import expansion, make_activation
from lop.nets.base import HiddenLayer, Net, net, require_images
from lop.nets.init import Init, conv2d, linear
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require

POSITION_STD = 0.02  # of the initial position embedding (Dosovitskiy 2021)


class Positions(nn.Module):
    """A learned vector added at every position."""

    def __init__(self, number: int, width: int):
        super().__init__()
        self.value = nn.Parameter(torch.empty(1, number, width))

    def fresh_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = torch.empty(self.value.shape, dtype=self.value.dtype, device=generator.device)
        return {"value": drawn.normal_(0.0, POSITION_STD, generator=generator).to(self.value.device)}

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


class Attention(nn.Module):
    """Self-attention written out: the kernels that fuse it have no second derivative."""

    def __init__(self, width: int, heads: int, init: Init):
        super().__init__()
        self.heads = heads
        self.queries, self.keys, self.values = (linear(width, width, init) for _ in range(3))
        self.out = linear(width, width, init)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = (
            f(x).view(batch, tokens, self.heads, -1).transpose(1, 2) for f in (self.queries, self.keys, self.values)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Attention and an MLP, each after a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str, init: str):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, Init(init, "linear"))
        self.norm2, self.incoming = nn.LayerNorm(width), linear(width, hidden, Init(init, activation))
        self.activation = make_activation(activation)
        self.outgoing = linear(hidden, width, Init(init, "linear"))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.outgoing(self.activation(self.incoming(self.norm2(x))))


@net("vit")
class ViT(Net):
    """ViT-Tiny for small images (Dosovitskiy 2021; Touvron 2021): patches, transformer blocks, the mean over tokens.

    patch: side of a patch in pixels, a divisor of the images' sides. width: of the tokens, a multiple of heads.
    hidden: of the blocks' MLPs. The hidden layers are those of the MLPs, read by their second Linear alone; what
    flows along the shortcuts belongs to no unit. Parameters are undefined until `lop.nets.init.initialise_` draws them.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        patch: int = 4,
        width: int = 192,
        heads: int = 3,
        blocks: int = 6,
        hidden: int = 384,
        activation: str = "gelu",
        init: str = "xavier_uniform",
    ):
        super().__init__()
        require_images(input_shape)
        require(COUNT, patch=patch, width=width, heads=heads, blocks=blocks, hidden=hidden)
        channels, height, breadth = input_shape
        if height % patch or breadth % patch:
            raise UserError(f"must divide the images' sides, {height} and {breadth}, got {patch}", option="patch")
        if width % heads:
            raise UserError(f"must be a multiple of heads, {heads}, got {width}", option="width")
        if expansion(activation) != 1:
            raise UserError(f"must keep the number of units, got {activation!r}", option="activation")
        self.patches = conv2d(channels, width, patch, Init(init, "linear"), stride=patch)
        self.positions = Positions(height // patch * (breadth // patch), width)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, activation, init) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = linear(width, num_outputs, Init(init, "linear"))
        self._layers = [
            HiddenLayer(f"block{i}", block.incoming, None, block.activation, (block.outgoing,), units_last=True)
            for i, block in enumerate(self.blocks)
            if isinstance(block, Block)
        ]

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.positions(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(self.blocks(tokens)).mean(1))

    def hidden_layers(self) -> list[HiddenLayer]:
        return self._layers

    def output_layer(self) -> nn.Linear:
        return self.head
