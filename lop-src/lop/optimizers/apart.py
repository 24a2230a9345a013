"""Many nets' losses differentiated as one, each net updated by its own optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lop.optimizers.base import Closure, ClosureOptimizer
from lop.optimizers.evaluation import Pass
from lop.optimizers.objective import Objective


class UpdatedApart:
    """For optimizers whose update is no computation over stacked parameters, but which see the loss through its
    gradient alone (`plain_gradient`): the pass is one for all members, and everything else is what each does alone, so
    that they may differ in all that there is. Nothing but the parameters is shared.

    Shampoo: its eigendecompositions and products of 100 x 100 matrices take as long for 16 members at once as one after
    the other (on a CPU 0.92 to 1.05 and 0.77), so that there is nothing to gain but the pass.

    params: the stacked parameters (S, ...). owners: of each, the members' own ones, which lie in its memory.
    """

    intact = True

    def __init__(
        self, members: Sequence[ClosureOptimizer], params: Sequence[Tensor], owners: Sequence[Sequence[Tensor]]
    ):
        self.members = list(members)
        self._params = [p for p in params if p.requires_grad]
        kept = [theirs for p, theirs in zip(params, owners, strict=True) if p.requires_grad]
        self._own = [list(row) for row in zip(*kept, strict=True)]

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:
        """One update of every member. closure() -> their losses (S,). Returns these, detached."""
        objective = closure if isinstance(closure, Objective) else None
        with torch.enable_grad():
            losses = objective.part() if objective else closure()
        grads: Sequence[Tensor | None]
        grads = torch.autograd.grad(losses, self._params, torch.ones_like(losses), allow_unused=True)
        if objective:
            grads = objective.completed(self._params, grads)
        for i, (member, own) in enumerate(zip(self.members, self._own, strict=True)):
            reached = [(p, g[i]) for p, g in zip(own, grads, strict=True) if g is not None]
            member.finish_step(Pass(losses[i].detach(), [p for p, _ in reached], [g for _, g in reached]))
        return losses.detach()

    def release(self, index: int) -> None:
        """This member is stepped no further here; its state has always been its own."""
