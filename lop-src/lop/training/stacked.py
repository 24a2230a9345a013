"""Learners that are trained side by side as one computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lop.data.stream import Batch, Task
from lop.nets.gradients import GradientRecorder
from lop.nets.stack import Stack, shape_of
from lop.optimizers.apart import UpdatedApart
from lop.optimizers.objective import make_objective
from lop.optimizers.stacking import OptimizerStack, numbers, structure
from lop.training.learner import Learner, StepResult
from lop.training.looped import Population
from lop.training.stacked_interventions import StackedInterventions


def _cross_entropies(logits: Tensor, y: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    return losses.view(y.shape).mean(1)


def _squared_errors(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y, reduction="none").flatten(1).mean(1)


# (S, batch, outputs), targets (S, batch, ...) -> each member's mean loss (S,)
LOSSES = {"cross_entropy": _cross_entropies, "mse": _squared_errors}


def stackable(learner: Learner) -> bool:
    """Whether it can be a member of a stack: its update is `Learner`'s own, and its optimizer knows members, or wants
    nothing of the loss but its gradient."""
    own = type(learner).learn is Learner.learn and learner.loss in LOSSES
    optimizer = learner.optimizer
    return own and (optimizer.stackable or optimizer.plain_gradient) and all(i.stackable for i in learner.interventions)


class StackedPopulation(Population):
    """Learners whose nets, kinds of optimizers and step counts are equal are one computation, a `Block`.

    Members of a block differ in seed and data, in the options of their interventions and in the numbers of their
    optimizers; those with other words among these (a schedule's shape) are a block of their own, and so is one that has
    started anew, whose steps are counted from then. Who is alone in a block, or can't be stacked, is trained alone.
    Between two steps all learners are ordinary ones that may
    be changed in place, forget, or be loaded: the blocks are arranged anew where that is needed.
    """

    def __init__(self, learners: Sequence[Learner], *, smallest: int = 2):
        """smallest: fewer learners than this are no block, they are trained alone."""
        super().__init__(learners)
        self.smallest = smallest
        self.blocks: list[Block] = []
        self._alone: list[Learner] | None = None  # None: not arranged yet

    def learn(self, batches: Sequence[Batch]) -> list[Any]:
        if self._alone is None or not all(block.intact for block in self.blocks):
            self._arrange()
        batch_of = dict(zip(self.learners, batches, strict=True))
        results = {learner: learner.learn(*batch_of[learner]) for learner in self._alone or ()}
        for block in self.blocks:
            learned = block.learn([batch_of[learner] for learner in block.learners])
            results |= dict(zip(block.learners, learned, strict=True))
        return [results[learner] for learner in self.learners]

    def remove(self, index: int) -> None:
        learner = self.learners[index]
        super().remove(index)
        for block in self.blocks:
            if learner in block.learners:
                block.release(learner)
        self._alone = None

    def start_task(self, tasks: Sequence[Task]) -> None:
        super().start_task(tasks)
        self._alone = None  # what was done between the tasks may have made learners equal

    def _arrange(self) -> None:
        """Blocks of those that belong together. A block that is as it should be stays."""
        kinds: list[tuple[Any, list[Learner]]] = []
        for learner in self.learners:
            kind = _kind(learner)
            for known, members in kinds:
                if kind is not None and known == kind:
                    members.append(learner)
                    break
            else:
                kinds.append((kind, [learner]))
        groups = [_by_numbers(members) for _, members in kinds if len(members) >= self.smallest]
        kept = [block for block in self.blocks if block.intact and block.learners in groups]
        self._alone = [learner for _, members in kinds if len(members) < self.smallest for learner in members]
        for block in self.blocks:
            if block not in kept:
                for learner in self._alone:
                    if learner in block.learners:
                        block.release(learner)
        known = [block.learners for block in kept]
        self.blocks = kept + [Block(members) for members in groups if members not in known]


def _kind(learner: Learner) -> tuple | None:
    """Equal for learners that can be in one block. None: it can't be in any."""
    if not stackable(learner):
        return None
    params = list(learner.net.parameters())
    if any(p not in set(params) for group in learner.optimizer.param_groups for p in group["params"]):
        return None
    optimizer = learner.optimizer
    parts = (
        structure(optimizer, params)
        if optimizer.stackable
        else (type(optimizer), type(getattr(optimizer, "base", None)))
    )
    return learner.loss, shape_of(learner.net), parts


def _numbers(learner: Learner) -> tuple:
    return numbers(learner.optimizer, list(learner.net.parameters()))


def _by_numbers(learners: Sequence[Learner]) -> list[Learner]:
    """Those whose optimizers have equal numbers are neighbours."""
    found: list[tuple[tuple, list[Learner]]] = []
    if not learners[0].optimizer.stackable:
        return list(learners)
    for learner in learners:
        own = _numbers(learner)
        alike = next((members for known, members in found if known == own), None)
        if alike is None:
            found.append((own, [learner]))
        else:
            alike.append(learner)
    return [learner for _, members in found for learner in members]


class Block:
    """Learners that make their steps as one."""

    def __init__(self, learners: Sequence[Learner]):
        self.learners = list(learners)
        self.stack = Stack([learner.net for learner in learners])
        self.params = list(self.stack.net.parameters())
        self._owners = [self.stack.owners(p) for p in self.params]
        self.optimizers = self._stacked_optimizers()
        self._losses = LOSSES[self.learners[0].loss]
        self.interventions = StackedInterventions(self.learners, self.params, self._owners)
        self._needs_features = any(learner.needs_features for learner in learners)
        self._gradients = GradientRecorder(self.params)
        self._masks: list[Tensor | None] = []
        self._mask: Tensor | None = None
        self._started = False

    def _stacked_optimizers(self) -> OptimizerStack | UpdatedApart:
        optimizers = [learner.optimizer for learner in self.learners]
        if not optimizers[0].stackable:
            return UpdatedApart(optimizers, self.params, self._owners)
        own = [_numbers(learner) for learner in self.learners]
        cuts = [0, *(i for i in range(1, len(own)) if own[i] != own[i - 1]), len(own)]
        return OptimizerStack(optimizers, self.params, self._owners, self.stack, cuts)

    @property
    def intact(self) -> bool:
        """Whether the learners can still be trained as one."""
        return self.optimizers.intact

    def release(self, learner: Learner) -> None:
        """This learner gets memory of its own. The block is used no more."""
        index = self.learners.index(learner)
        self.stack.release(index)
        self.optimizers.release(index)
        self.interventions.release(index)

    def learn(self, batches: Sequence[Batch]) -> list[StepResult]:
        """One update of each learner on its batch; what `Learner.learn` does."""
        starting = [] if self._started else [learner.starts() for learner in self.learners]
        x, y = torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches])
        first: list[tuple[Tensor, Tensor]] = []

        def part() -> Tensor:
            self.stack.recording = self._needs_features and not first
            logits = self._masked(self.stack(x))
            losses = self._losses(logits, y)
            if not first:
                first.append((losses.detach(), logits.detach()))
            self.stack.follow()
            penalties = self.interventions.differentiated()
            return losses if penalties is None else losses + penalties

        for learner, (own, _) in zip(self.learners, batches, strict=True):
            learner.before_step(own)
        watching = [learner.needs_gradients for learner in self.learners]
        with self._gradients if any(watching) else nullcontext():
            self.optimizers.step(make_objective(part, self.interventions.known, watched=any(watching)))
        self.stack.follow()
        seen = [self._gradients_of(i) if watched else None for i, watched in enumerate(watching)]
        self.interventions.after_step(self.stack.features if self._needs_features else [], seen)
        losses, logits = first[0]
        results = [StepResult(*pair) for pair in zip(losses.unbind(), logits.unbind(), strict=True)]
        for learner, result, starts in zip(self.learners, results, starting, strict=False):
            if starts:
                learner.started(result.loss)
        self._started = True
        return results

    def _gradients_of(self, index: int) -> Mapping[Tensor, Tensor]:
        """Of this member's own parameters, as recorded."""
        return {self.stack.owners(p)[index]: gradient[index] for p, gradient in self._gradients.gradients.items()}

    def _masked(self, logits: Tensor) -> Tensor:
        masks = [learner.mask for learner in self.learners]
        if len(masks) != len(self._masks) or any(a is not b for a, b in zip(masks, self._masks, strict=True)):
            self._masks = masks
            none = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
            rows = [none if mask is None else mask for mask in masks]
            self._mask = torch.stack(rows).unsqueeze(1) if any(mask is not None for mask in masks) else None
        return logits if self._mask is None else logits.masked_fill(self._mask, float("-inf"))
