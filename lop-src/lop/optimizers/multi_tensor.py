"""Arithmetic over lists of parameter-shaped tensors: cache-sized blocks, norms, powers, random signs.

Every reduction over the parameters lives here under a name, so that a stacked computation (many seeds at once) can
replace it in one place.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

BLOCK = 131_072
"""Elements per block on the CPU: the half dozen tensors of one update then stay in the cache (512 kB each)."""

Tensors = Sequence[Tensor]

Number = float | Tensor
"""A scalar that changes from step to step: in a compiled update a 0-d tensor, which is no constant of the kernel."""


def blocks(*columns: Tensors) -> Iterator[tuple[list[Tensor], ...]]:
    """Cut parallel lists of equally shaped tensors into pieces for a chain of elementwise in-place operations.

    Every piece has one more list at its end: scratch tensors for intermediate results, with undefined values.
    On the CPU large tensors are cut into blocks of `BLOCK` elements, so that each operation of the chain finds its
    operands in the cache, and all blocks share their scratch (fresh memory costs page faults, more than arithmetic);
    small tensors go together. On other devices, one piece: their multi-tensor kernels want everything at once.
    Tensors that are not contiguous stay whole.
    """
    first = columns[0]
    if first and first[0].device.type == "cpu" and any(t.numel() > BLOCK for t in first):
        together: list[tuple[Tensor, ...]] = []
        scratch = first[0].new_empty(0)
        for row in zip(*columns, strict=True):
            if row[0].numel() <= BLOCK:
                together.append(row)
            elif all(t.is_contiguous() for t in row):
                if scratch.dtype != row[0].dtype or not scratch.numel():
                    scratch = row[0].new_empty(BLOCK)
                for piece in zip(*(t.view(-1).split(BLOCK) for t in row), strict=True):
                    yield *([t] for t in piece), [scratch[: piece[0].numel()]]
            else:
                yield *([t] for t in row), [torch.empty_like(row[0])]
        if together:
            yield from _whole(*zip(*together, strict=True))
    elif first:
        yield from _whole(*columns)


def _whole(*columns: Tensors) -> Iterator[tuple[list[Tensor], ...]]:
    yield *(list(column) for column in columns), [torch.empty_like(t) for t in columns[0]]


def global_norm(tensors: Tensors) -> Tensor:
    """Euclidean norm over all tensors together: a 0-d tensor on their device."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def clip_by_global_norm(tensors: Tensors, max_norm: float, out: Tensors) -> None:
    """out = tensors, scaled down together so that their global norm is at most `max_norm` (Pascanu 2013)."""
    scale = (max_norm / (global_norm(tensors) + 1e-6)).clamp(max=1.0)
    for t, target in zip(tensors, out, strict=True):
        torch.mul(t, scale, out=target)


def power(tensors: Tensors, exponent: float, out: Tensors) -> None:
    """out = tensors^exponent, with the square root and its root as special cases (a general power is slow).

    On the CPU the roots of 0 are 1e-19 or less, not 0: square roots of 0 and of denormal numbers, frequent in the
    curvature of units that are off, take 5 to 30 times as long as others there.
    """
    torch._foreach_copy_(out, tensors)
    if exponent in (0.5, 0.25):
        if out[0].device.type == "cpu":
            torch._foreach_clamp_min_(out, torch.finfo(out[0].dtype).tiny)
        torch._foreach_sqrt_(out)
        if exponent == 0.25:
            torch._foreach_sqrt_(out)
    elif exponent != 1:
        torch._foreach_pow_(out, exponent)


def scale(tensors: Tensors, factor: Number) -> None:
    """tensors *= factor."""
    if isinstance(factor, Tensor):
        for t in tensors:
            t.mul_(factor)
    else:
        torch._foreach_mul_(tensors, factor)


def add_number(tensors: Tensors, number: Number) -> None:
    """tensors += number."""
    if isinstance(number, Tensor):
        for t in tensors:
            t.add_(number)
    else:
        torch._foreach_add_(tensors, number)


def add_multiple(tensors: Tensors, terms: Tensors, factor: Number) -> None:
    """tensors += factor * terms."""
    if isinstance(factor, Tensor):
        for t, term in zip(tensors, terms, strict=True):
            t.add_(term * factor)
    else:
        torch._foreach_add_(tensors, terms, alpha=factor)


def add_quotient(tensors: Tensors, numerators: Tensors, denominators: Tensors, factor: Number) -> None:
    """tensors += factor * numerators / denominators."""
    if isinstance(factor, Tensor):
        for t, n, d in zip(tensors, numerators, denominators, strict=True):
            t.add_(n / d * factor)
    else:
        torch._foreach_addcdiv_(tensors, numerators, denominators, value=factor)


@cache
def _sign_table(device: torch.device) -> Tensor:
    """(256, 8): the bits of every byte as -1 and +1."""
    bits = torch.arange(256, device=device).unsqueeze(1) >> torch.arange(8, device=device)
    return (bits & 1).float().mul_(2).sub_(1)


def random_signs(like: Tensors, generator: torch.Generator) -> list[Tensor]:
    """Rademacher probes: independent -1/+1 with probability 1/2, shaped and typed like the given tensors.

    One bit of randomness per entry, expanded through a table: far cheaper than one draw per entry.
    """
    sizes = [t.numel() for t in like]
    total = sum(sizes)
    words = torch.empty((total + 63) // 64, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    signs = _sign_table(words.device).index_select(0, words.view(torch.uint8).int()).view(-1)[:total]
    return [
        part.view(t.shape).to(device=t.device, dtype=t.dtype) for part, t in zip(signs.split(sizes), like, strict=True)
    ]
