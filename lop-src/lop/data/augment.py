"""Random flips, crops and rotations of image batches, on the device, as one selection of pixels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lop.utils.ranges import COUNT_OR_ZERO, SHARE, require


@dataclass(frozen=True)
class Transforms:
    """Parameters per image, each (batch,): what torchvision's single-image functions take.

    flip: bool, mirror left and right. top, left: int64, corner of the crop in the padded image.
    angle: float32, degrees, counter-clockwise.
    """

    flip: Tensor
    top: Tensor
    left: Tensor
    angle: Tensor

    def __getitem__(self, rows: slice) -> "Transforms":
        return Transforms(self.flip[rows], self.top[rows], self.left[rows], self.angle[rows])

    def to(self, device: torch.device | str) -> "Transforms":
        return Transforms(*(t.to(device) for t in (self.flip, self.top, self.left, self.angle)))


@dataclass(frozen=True)
class Augmentation:
    """Horizontal flip, then reflect-pad and crop back to the size, then rotation, in this order.

    The distribution of torchvision's RandomHorizontalFlip(flip), RandomCrop(size, padding, padding_mode="reflect")
    and RandomRotation((0, degrees)) with nearest-neighbour sampling. flip: chance of a mirrored image.
    """

    flip: float = 0.5
    padding: int = 4
    degrees: float = 15.0

    def __post_init__(self):
        require(SHARE, flip=self.flip)
        require(COUNT_OR_ZERO, padding=self.padding)

    def draw(self, count: int, generator: torch.Generator) -> Transforms:
        """Parameters for `count` images, on the generator's device."""
        device = generator.device
        flip = torch.rand(count, generator=generator, device=device) < self.flip
        corners = torch.randint(2 * self.padding + 1, (2, count), generator=generator, device=device)
        angle = torch.rand(count, generator=generator, device=device) * self.degrees
        return Transforms(flip, corners[0], corners[1], angle)

    def sources(self, transforms: Transforms, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Which pixel each pixel of the result is: (index int64, inside bool), both (batch, height * width).

        index counts row by row in the image; where `inside` is false the rotation reached out of the image.
        """
        device = transforms.angle.device
        y = torch.arange(height, device=device) - (height - 1) / 2
        x = torch.arange(width, device=device) - (width - 1) / 2
        y, x = (grid.reshape(1, -1) for grid in torch.meshgrid(y, x, indexing="ij"))
        radians = transforms.angle[:, None] * (math.pi / 180)
        cos, sin = radians.cos(), radians.sin()
        # inverse rotation: where the result's pixel lies in the image before it (y points down)
        column = (cos * x - sin * y + (width - 1) / 2).round()
        row = (sin * x + cos * y + (height - 1) / 2).round()
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        row = _reflect(row.long() + (transforms.top[:, None] - self.padding), height)
        column = _reflect(column.long() + (transforms.left[:, None] - self.padding), width)
        column = torch.where(transforms.flip[:, None], width - 1 - column, column)
        # pixels outside may have left the reflected range, too; they are masked, but must be a valid index
        return (row * width + column).clamp_(0, height * width - 1), inside

    def apply(self, images: Tensor, transforms: Transforms) -> tuple[Tensor, Tensor]:
        """(batch, C, H, W) of any type -> (the same transformed, inside (batch, 1, H, W) as bool)."""
        batch, channels, height, width = images.shape
        index, inside = self.sources(transforms, height, width)
        index = index[:, None].expand(batch, channels, height * width)
        return images.flatten(2).gather(2, index).view(images.shape), inside.view(batch, 1, height, width)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1 mirrored at the edge pixels, which are not repeated."""
    position = position.abs()
    return torch.where(position > size - 1, 2 * (size - 1) - position, position)
