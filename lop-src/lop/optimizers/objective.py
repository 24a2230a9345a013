"""A loss one part of which need not be differentiated, as its gradient is known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Gradients(dict[Tensor, Tensor]):
    """Of parameters, each in memory of its own, to be added to. Of one that the loss did not reach: 0 when asked."""

    def __missing__(self, param: Tensor) -> Tensor:
        self[param] = torch.zeros_like(param)
        return self[param]


class KnownGradient(Protocol):
    """A term of the loss: differentiable as `penalty`, and its gradient alone."""

    def penalty(self) -> Tensor | None:
        """The term with its graph; None: there is none at present."""

    def add_penalty_gradient(self, gradients: Gradients) -> None:
        """Add the term's gradient at the parameters' values, in place."""


class Objective:
    """A closure: called, it gives the whole loss with its graph, as any closure does.

    An optimizer that asks for nothing but the gradient there differentiates `part` and has it `completed`. What
    `part` then returns is all that it hears of the loss's value, which is without the terms.
    """

    def __init__(self, part: Callable[[], Tensor], terms: Sequence[KnownGradient]):
        """part: the loss without the terms."""
        self.part, self._terms = part, terms

    def __call__(self) -> Tensor:
        return self.whole()

    def whole(self) -> Tensor:
        """As a closure that hides that there are parts."""
        loss = self.part()
        for value in (term.penalty() for term in self._terms):
            loss = loss if value is None else loss + value
        return loss

    @torch.no_grad()
    def completed(self, params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The whole loss's gradients, from those of `part`, which may be overwritten. None: not reached."""
        gradients = _owned(params, grads)
        for term in self._terms:
            term.add_penalty_gradient(gradients)
        return [gradients.get(p) for p in params]


def make_objective(
    part: Callable[[], Tensor], terms: Sequence[KnownGradient], *, watched: bool
) -> Callable[[], Tensor]:
    """A closure of the part and the terms. watched: whether somebody looks at the gradients on their way to the
    parameters, where only what is differentiated comes."""
    if not terms:
        return part
    objective = Objective(part, terms)
    return objective.whole if watched else objective


def _owned(params: Sequence[Tensor], grads: Sequence[Tensor | None]) -> Gradients:
    """Copies of those that share memory, which autograd may give several parameters, or several entries of one."""
    found, places = Gradients(), set()
    for p, g in zip(params, grads, strict=True):
        if g is None:
            continue
        storage = g.untyped_storage()
        shares = storage._cdata in places or storage.nbytes() != g.numel() * g.element_size()
        found[p] = g.clone(memory_format=torch.contiguous_format) if shares else g
        places.add(storage._cdata)  # of the memory itself, also where it is only pretended
    return found
