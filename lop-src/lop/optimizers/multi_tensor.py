"""Arithmetic over lists of parameter-shaped tensors: cache-sized blocks, norms, powers, random signs.

Tensors of a stack (many nets at once) have the members as their first dimension, (S, ...); what reduces or draws says
what it does with them.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain

import torch
from torch import Tensor

BLOCK = 131_072
"""Elements per block on the CPU: the half dozen tensors of one update then stay in the cache (512 kB each)."""

Tensors = list[Tensor] | tuple[Tensor, ...]  # what torch's multi-tensor operations take

_SLOWEST_DECAY = math.nextafter(1.0, 0.0)

Number = float | Tensor
"""A scalar that changes from step to step: in a compiled update a 0-d tensor, which is no constant of the kernel."""


def blocks(*columns: Tensors) -> Iterator[tuple[Tensors, ...]]:
    """Cut parallel lists of equally shaped tensors into pieces for a chain of elementwise in-place operations.

    On the CPU large tensors are cut into blocks of `BLOCK` elements, so that each operation of the chain finds its
    operands in the cache; small tensors go together. On other devices, one piece: their multi-tensor kernels want
    everything at once. Tensors that are not contiguous stay whole.
    """
    first = columns[0]
    if first and first[0].device.type == "cpu" and any(t.numel() > BLOCK for t in first):
        together: list[tuple[Tensor, ...]] = []
        for row in zip(*columns, strict=True):
            if row[0].numel() <= BLOCK:
                together.append(row)
            elif all(t.is_contiguous() for t in row):
                for piece in zip(*(t.view(-1).split(BLOCK) for t in row), strict=True):
                    yield tuple([t] for t in piece)
            else:
                yield tuple([t] for t in row)
        if together:
            yield tuple(zip(*together, strict=True))
    elif first:
        yield columns


def scratch_like(tensors: Tensors, kept: dict[tuple, Tensor]) -> list[Tensor]:
    """Tensors like the given ones for intermediate results, with undefined values, from `kept` where it has them.

    Fresh memory costs page faults, more than the arithmetic done in it.
    """
    scratch = []
    for i, t in enumerate(tensors):
        key = i, t.shape, t.stride(), t.dtype, t.device
        if key not in kept:
            kept[key] = torch.empty_like(t)
        scratch.append(kept[key])
    return scratch


def global_norm(tensors: Tensors, *, stacked: bool = False) -> Tensor:
    """Euclidean norm over all tensors together, on their device: () or, of a stack, (S,), each member's own."""
    if stacked:
        norms = [torch.linalg.vector_norm(t.reshape(len(t), -1), dim=1) for t in tensors]
        return torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def spread(number: Tensor, like: Tensor) -> Tensor:
    """A number, or one for each member (S,), shaped so that it multiplies a parameter or a stack's (S, ...)."""
    return number.view(-1, *[1] * (like.dim() - 1)) if number.dim() else number


def clip_by_global_norm(tensors: Tensors, max_norm: Number, out: Tensors, *, stacked: bool = False) -> None:
    """out = tensors, scaled down together so that their global norm is at most `max_norm` (Pascanu 2013).

    max_norm: of a stack, one for all members or each one's (S,).
    """
    scale = (max_norm / (global_norm(tensors, stacked=stacked) + 1e-6)).clamp(max=1.0)
    for t, target in zip(tensors, out, strict=True):
        torch.mul(t, spread(scale, t), out=target)


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


def can_fuse(*columns: Tensors) -> bool:
    """Whether `add_root_quotient` takes these tensors: its kernel reads memory in order, and needs a CPU or a GPU."""
    first = columns[0][0]
    return (
        first.dtype in (torch.float32, torch.float64)
        and first.device.type in ("cpu", "cuda")
        and all(t.dtype == first.dtype and t.device == first.device for t in columns[0])
        and all(map(Tensor.is_contiguous, chain(*columns)))
    )


def add_root_quotient(
    tensors: Tensors, numerators: Tensors, squares: Tensors, factor: float, eps: float, scratch: Tensors
) -> None:
    """tensors += factor * numerators / (sqrt(squares) + eps), in one pass over the memory instead of six.

    This is torch's fused Adam kernel after infinitely many steps without a gradient, where its bias corrections are 1
    and its averages, of the slowest decay below 1, keep their values but for the last bit. scratch: what it takes for
    gradients.
    """
    torch._foreach_zero_(scratch)
    steps = [_infinity(tensors[0].device)] * len(tensors)
    torch._fused_adam_(
        tensors,
        scratch,
        numerators,
        squares,
        [],
        steps,
        lr=-factor,
        beta1=_SLOWEST_DECAY,
        beta2=_SLOWEST_DECAY,
        weight_decay=0.0,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


@cache
def _infinity(device: torch.device) -> Tensor:
    return torch.tensor(math.inf, dtype=torch.float32, device=device)


class Signs:
    """Rademacher probes, in memory that every draw overwrites: independent -1/+1 with probability 1/2.

    One bit of randomness per entry, moved to where a float32 has its sign: far cheaper than one draw per entry.
    members: of a stack, whose tensors have them as their first dimension; each draws what it would draw alone.
    """

    def __init__(self, like: Tensors, device: torch.device, members: int = 1):
        sizes = [t.numel() // members for t in like]
        self._words = torch.empty(members, (sum(sizes) + 63) // 64, dtype=torch.int64, device=device)
        self._rows = list(self._words)
        self._signs = torch.empty(*self._words.view(torch.int32).shape, 32, dtype=torch.float32, device=device)
        self._shifts = torch.arange(31, -1, -1, dtype=torch.int32, device=device)
        parts = self._signs.view(members, -1)[:, : sum(sizes)].split(sizes, 1)
        self._parts = [part.view(t.shape) for part, t in zip(parts, like, strict=True)]

    def draw(self, *generators: torch.Generator) -> list[Tensor]:
        """float32 tensors shaped like those given to the constructor. generators: one for each member."""
        for row, generator in zip(self._rows, generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        words = self._words.view(torch.int32).unsqueeze(2)
        torch.bitwise_left_shift(words, self._shifts, out=self._signs.view(torch.int32))
        torch.copysign(self._signs.new_ones(()), self._signs, out=self._signs)
        return list(self._parts)


Generators = torch.Generator | Sequence[torch.Generator]
"""One, or one for each member of a stack."""


def random_signs(like: Tensors, generator: Generators, kept: dict[tuple, Signs] | None = None) -> list[Tensor]:
    """`Signs` shaped and typed like the given tensors. kept: holds their memory for the next call."""
    generators = [generator] if isinstance(generator, torch.Generator) else generator
    device = generators[0].device
    shapes = tuple(t.shape for t in like)
    signs = (kept or {}).get(shapes)
    if signs is None:
        signs = Signs(like, device, len(generators))
        if kept is not None:
            kept[shapes] = signs
    drawn = signs.draw(*generators)
    if all(t.dtype == torch.float32 and t.device == device for t in like):
        return drawn
    return [part.to(device=t.device, dtype=t.dtype) for part, t in zip(drawn, like, strict=True)]


def random_normals(like: Tensors, generator: Generators, out: Tensors) -> list[Tensor]:
    """out = standard normal numbers shaped like the given tensors. generator: one, or one for each member of a stack,
    which draws what it would draw alone."""
    if isinstance(generator, torch.Generator):
        return [target.normal_(generator=generator) for target in out]
    for i, own in enumerate(generator):
        for t, target in zip(like, out, strict=True):
            target[i] = torch.empty(t.shape[1:], dtype=t.dtype, device=t.device).normal_(generator=own)
    return list(out)
