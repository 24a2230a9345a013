"""Where the numbers of a layer's units go, from operation to operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lop.nets.layer_io import WeightLayer
from lop.nets.tracing import Operation
from lop.nets.values import tensors_in

DROPOUT = ("dropout", "dropout1d", "dropout2d", "feature_dropout", "alpha_dropout")
SAME = ("Identity", "contiguous", "clone", "to", "float")
RESHAPING = ("flatten", "view", "reshape", "squeeze", "unsqueeze")
MOVING = ("permute", "transpose", "movedim", "getitem", "pad", "interpolate")
POOLING = ("mean", "amax", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
KEEPING = frozenset((*DROPOUT, *SAME, *RESHAPING, *MOVING, *POOLING, "max_pool2d_with_indices"))
"""What may come between features and their readers: it moves or pools values of a unit, and mixes no two units."""


def numbered(shape: Sequence[int], dim: int, device: torch.device) -> Tensor:
    """Values of that shape that are the units' numbers, units along `dim`; float64, so that no two round alike."""
    numbers = torch.arange(shape[dim], dtype=torch.float64, device=device)
    return numbers.view(-1, *[1] * (len(shape) - 1 - dim)).expand(tuple(shape)).clone()


def passed(op: Operation, x: Tensor) -> Tensor:
    """Numbers that were sent through what moves and pools them; dropout and casts do neither."""
    return x if op.name in DROPOUT or op.name in SAME else tensors_in(op.replayed(x))[0]


def stays(ops: Sequence[Operation], shape: Sequence[int], dim: int, device: torch.device) -> bool:
    """Whether units that lie along `dim` still do, in order, after these operations."""
    x = numbered(shape, dim, device)
    for op in ops:
        x = passed(op, x)
        if x.dim() != len(shape) or x.shape[dim] != shape[dim] or not _equal(x, numbered(x.shape, dim, device)):
            return False
    return True


def read_in_order(
    ops: Sequence[Operation], shape: Sequence[int], dim: int, reader: WeightLayer, device: torch.device
) -> bool:
    """Whether a reader's columns are the features in order, each with all its positions: what `HiddenLayer` means.

    shape, dim: of the features, and where they lie; ops: what comes between.
    """
    x = numbered(shape, dim, device)
    for op in ops:
        x = passed(op, x)
    columns = (x.movedim(1, -1) if isinstance(reader, nn.Conv2d) else x).reshape(-1, 1)
    width = x.shape[1] if isinstance(reader, nn.Conv2d) else x.shape[-1]
    positions, rest = divmod(width, shape[dim])
    numbers = torch.arange(shape[dim], dtype=torch.float64, device=device)
    return not rest and _equal(columns.view(-1, width), numbers.repeat_interleave(positions))


def _equal(x: Tensor, expected: Tensor) -> bool:
    return bool(((x - expected).abs() < 1e-2).all())  # an average of equal numbers is rounded


@torch.no_grad()
def features_per_unit(op: Operation, shape: torch.Size, dim: int, like: Tensor) -> int:
    """Of a module: k when its output has k features per unit, output j depending on unit j mod units alone; else 0.

    0 for one that gives back what it is given, too. Tried on numbers: for each bit of a unit's number, the units with
    it are changed, then those without it.
    """
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator).to(like)

    x = noise()
    try:
        before = op.function(x.clone())  # it may work in place
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return 0
    units = shape[dim]
    if not isinstance(before, Tensor) or before.dim() != len(shape) or before.shape[dim] % units:
        return 0
    if torch.equal(before, x):  # a dropout of somebody's own
        return 0
    number = torch.arange(units, device=like.device)
    for bit in range(max(1, (units - 1).bit_length())):
        for chosen in ((number >> bit & 1).bool(), ~(number >> bit & 1).bool()):
            mask = chosen.view(-1, *[1] * (len(shape) - 1 - dim))
            after = op.function(torch.where(mask, x + noise(), x))
            others = (~chosen).repeat(before.shape[dim] // units).nonzero().squeeze(1)
            if not torch.equal(after.index_select(dim, others), before.index_select(dim, others)):
                return 0
    return before.shape[dim] // units


def pooling_operations(chain: Sequence[Operation]) -> list[Operation]:
    """What changes or moves values between the features and their readers, up to the last that does; dropout does not.

    Reshaping after it is the reader's affair.
    """
    ops = [op for op in chain if op.name not in DROPOUT and op.name not in SAME]
    while ops and ops[-1].name in RESHAPING:
        ops.pop()
    return ops


def fits_any_batch(ops: Sequence[Operation]) -> bool:
    """Whether operations can be applied to another batch: none holds this one's size, or takes a part of it."""
    return not any(op.name in ("view", "reshape", "getitem", "squeeze", "unsqueeze") for op in ops)


class Replay(nn.Module):
    """Recorded operations, one after the other."""

    def __init__(self, operations: list[Operation]):
        super().__init__()
        self._operations = operations

    def forward(self, x: Tensor) -> Tensor:
        for op in self._operations:
            x = tensors_in(op.replayed(x))[0]
        return x


def pooling_of(ops: list[Operation]) -> nn.Module | None:
    """Of `pooling_operations`: the module between features and readers."""
    if len(ops) == 1 and ops[0].module is not None:
        return ops[0].module
    return Replay(ops) if ops else None
