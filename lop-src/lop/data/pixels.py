"""From uint8 images to a net's inputs."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lop.utils.errors import UserError
from lop.utils.ranges import FINITE, POSITIVE, require_all


def scale(images: Tensor, mean: Tensor | float | None = None, std: Tensor | float = 1.0) -> Tensor:
    """(batch, C, H, W) uint8 -> x / 255 or, with a mean, (x / 255 - mean) / std; float32.

    mean, std: numbers, or per channel (C, 1, 1).
    """
    out = images.float().div_(255)
    return out if mean is None else out.sub_(mean).div_(std)


def channel_values(values: tuple[float, ...], device: torch.device | str) -> Tensor:
    """(C, 1, 1), for `scale`."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


def normaliser(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int, device: torch.device | str
) -> Callable[[Tensor], Tensor]:
    """The `scale` that a benchmark's options `mean` and `std` ask for: x / 255, or (x / 255 - mean) / std.

    mean, std: one number for all channels or one per channel; both or neither. Raises UserError otherwise.
    """
    if mean is None and std is None:
        return scale
    if mean is None or std is None:
        raise UserError(f"mean and std must be given together, got {mean} and {std}")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise UserError(f"must have 1 number or {channels}, one per channel, got {list(values)}", option=name)
    require_all(FINITE, mean=mean)
    require_all(POSITIVE, std=std)
    return partial(scale, mean=channel_values(tuple(mean), device), std=channel_values(tuple(std), device))


def resize_images(images: Tensor, size: int) -> Tensor:
    """uint8 (batch, C, H, W) -> uint8 (batch, C, size, size): bilinear, smoothed where it shrinks."""
    if images.dtype != torch.uint8:
        raise UserError(f"resize needs uint8 images, got {images.dtype}")
    if images.shape[2:] == (size, size):
        return images
    out = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return out.round_().clamp_(0, 255).to(torch.uint8)
