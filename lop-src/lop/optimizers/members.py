"""What an optimizer over stacked parameters knows of the members whose parameters they are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lop.optimizers.entry_age import LEFT

MEMBER = "member"
"""In a group of a stack: the first of the members whose options it has."""


class Members:
    """The members' own optimizers, and which part of the stacked parameters (S, ...) is whose.

    Members with equal options stand next to each other: `cuts` are the places where others begin, 0 and S included. An
    update is made of one piece (members, ...) of a parameter after the other, each of which has its own group.

    optimizers: of this package (`base.ClosureOptimizer`, which knows this class and not the other way round). params:
    the stacked ones. owners: of each, the members' own ones.
    """

    def __init__(
        self,
        optimizers: Sequence[Any],
        params: Sequence[Tensor],
        owners: Sequence[Sequence[Tensor]],
        cuts: Sequence[int],
    ):
        self.optimizers, self.params = list(optimizers), list(params)
        self.ranges = [slice(a, b) for a, b in pairwise(cuts)]
        self._owners = dict(zip(params, owners, strict=True))
        whole = len(self.ranges) == 1
        self.pieces = {p: [p] if whole else [p.detach()[part] for part in self.ranges] for p in params}
        # the members' own parameters lie elsewhere while the stacked ones are perturbed
        self._rows = {piece: piece.detach().unbind() for parts in self.pieces.values() for piece in parts}
        self._place = {
            piece: (p, part) for p in params for piece, part in zip(self.pieces[p], self.ranges, strict=True)
        }

    @property
    def generators(self) -> list[torch.Generator]:
        """Each member's, of the probes."""
        return [own.generator for own in self.optimizers]

    def of(self, optimizers: Sequence[Any]) -> Members:
        """The same of the optimizers that the members' own ones wrap."""
        other = copy.copy(self)
        other.optimizers = list(optimizers)
        return other

    def split(self, params: Sequence[Tensor], *columns: Sequence[Tensor]) -> list[list[Tensor]]:
        """Parallel lists of stacked parameters and of tensors shaped like them, piece by piece."""
        if len(self.ranges) == 1:
            return [list(params), *(list(column) for column in columns)]
        pieces = [[piece for p in params for piece in self.pieces[p]]]
        return pieces + [[t[part] for t in column for part in self.ranges] for column in columns]

    def own(self, piece: Tensor) -> list[tuple[Any, Tensor]]:
        """The members whose piece it is, each with its own parameter."""
        p, part = self._place[piece]
        return list(zip(self.optimizers[part], self._owners[p][part], strict=True))

    def young(self, groups: Sequence[dict[str, Any]], pieces: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple:
        """(groups, parameters, gradients, states) of the members whose entries have recently been reset: rows of the
        pieces, with the states that the members have of them."""
        params: list[Tensor] = []
        rows: list[Tensor] = []
        states: dict[Tensor, dict[str, Any]] = {}
        for piece, grad in zip(pieces, grads, strict=True):
            for (optimizer, p), row, own_grad in zip(self.own(piece), self._rows[piece], grad.unbind(), strict=True):
                if LEFT in optimizer.state.get(p, ()):
                    params.append(row)
                    rows.append(own_grad)
                    states[row] = optimizer.state[p]
        theirs = [[row for piece in group["params"] for row in self._rows[piece]] for group in groups]
        owned = [{**group, "params": mine} for group, mine in zip(groups, theirs, strict=True)]
        return owned, params, rows, states
