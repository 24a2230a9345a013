"""What the interventions of many learners do in every step, as one computation where their kind allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lop.algos import Intervention
from lop.algos.stacking import InterventionStack, alike, containers, same_objects
from lop.optimizers.objective import Gradients
from lop.training.learner import Learner
from lop.training.stacked_penalty import stacked_penalty


class StackedInterventions:
    """Place by place: those at one place in their learners' lists are one, or act one after the other.

    The learners are independent, so that this is what happens to each of them alone.
    params: the stacked parameters (S, ...). owners: of each, the members' own.
    """

    def __init__(self, learners: Sequence[Learner], params: Sequence[Tensor], owners: Sequence[Sequence[Tensor]]):
        self._params, self._owners = list(params), list(owners)
        self._stacked = {id(theirs[0]): p for p, theirs in zip(params, owners, strict=True)}
        lists = [learner.interventions for learner in learners]
        alike_by_kind = all([type(i) for i in own] == [type(i) for i in lists[0]] for own in lists)
        self._learners = list(learners)
        self._places = [_Place(list(row), self._stacked) for row in zip(*lists, strict=True)] if alike_by_kind else None
        self._rows = [dict(zip(own, self._params, strict=True)) for own in zip(*self._owners, strict=True)]
        self._differentiated = any(learner.differentiated_penalties for learner in learners)
        self.known = [_Known(self)] if any(learner.known_penalties for learner in learners) else []

    def after_step(self, features: Sequence[Tensor], gradients: Sequence[Mapping[Tensor, Tensor] | None]) -> None:
        """features: (S, batch, ...) of each hidden layer, or none. gradients: each member's, where it needs them."""
        if self._places is None:
            for learner, own, found in zip(self._learners, self._of_each(features), gradients, strict=True):
                learner.after_step(own if learner.needs_features else [], found)
            return
        for place in self._places:
            if place.acts and (stack := place.stack):
                stack.now().after_step(features)
            elif place.acts:
                place.act_one_by_one(self._of_each(features), gradients)

    def _of_each(self, features: Sequence[Tensor]) -> list[list[Tensor]]:
        rows = [layer.unbind() for layer in features]
        return [[layer[i] for layer in rows] for i in range(len(self._learners))]

    def differentiated(self) -> Tensor | None:
        """The penalties that have to be, (S,), twice differentiable in the stacked parameters; None: there is none.

        The members' parameters must have the values of the stacked ones, here and below.
        """
        if not self._differentiated:
            return None
        return self._penalties([learner.differentiated_penalties for learner in self._learners], known=False)

    def known_penalties(self) -> Tensor | None:
        """The others, as such, too."""
        return self._penalties([learner.known_penalties for learner in self._learners], known=True)

    def _penalties(self, alone: Sequence[Sequence[Intervention]], *, known: bool) -> Tensor | None:
        if self._places is None:
            return stacked_penalty(lambda: [_sum(own) for own in alone], self._owners, self._params)
        places = [place for place in self._places if place.penalises and place.known is known]
        together = [place.stack.now().penalty() for place in places if place.stack]
        given = [value for value in together if value is not None]
        rest = [place.members for place in places if not place.stack]
        if rest:
            alone = [list(own) for own in zip(*rest, strict=True)]
            value = stacked_penalty(lambda: [_sum(own) for own in alone], self._owners, self._params)
            given += [] if value is None else [value]
        return sum(given[1:], start=given[0]) if given else None

    def add_known_gradients(self, gradients: Gradients) -> None:
        """Those of `known_penalties`, added in place to gradients of the stacked parameters."""
        if self._places is None:
            for i, learner in enumerate(self._learners):
                for own in learner.known_penalties:
                    own.add_penalty_gradient(_Member(gradients, self._rows[i], i))
            return
        for place in self._places:
            if not (place.penalises and place.known):
                continue
            if place.stack:
                place.stack.now().add_penalty_gradient(gradients)
                continue
            for i, member in enumerate(place.members):
                member.add_penalty_gradient(_Member(gradients, self._rows[i], i))

    def release(self, index: int) -> None:
        """This learner's state has memory of its own again."""
        for place in self._places or ():
            place.release(index)


class _Known:
    """The penalties whose gradient is known, as one term of an `Objective`."""

    def __init__(self, interventions: StackedInterventions):
        self.penalty = interventions.known_penalties
        self.add_penalty_gradient = interventions.add_known_gradients


class _Member(dict[Tensor, Tensor]):
    """A member's part of the stacked gradients, by its own parameters."""

    def __init__(self, gradients: Gradients, stacked: Mapping[Tensor, Tensor], index: int):
        super().__init__()
        self._gradients, self._stacked, self._index = gradients, stacked, index

    def __missing__(self, own: Tensor) -> Tensor:
        self[own] = self._gradients[self._stacked[own]][self._index]
        return self[own]


class _Place:
    """members: those at one place, of one kind."""

    def __init__(self, members: list[Intervention], stacked: Mapping[int, Tensor]):
        self.members = members
        kind = type(members[0])
        own = kind.after_step, kind.on_gradients
        self.acts = own != (Intervention.after_step, Intervention.on_gradients)
        self.penalises = kind.penalty is not Intervention.penalty
        self.known = kind.knows_gradient()
        self._parameter = lambda p: stacked[id(p)]
        self._stack: InterventionStack | None = None
        self._refused: list[list] | None = None  # what the members held when they were not alike

    @property
    def stack(self) -> InterventionStack | None:
        """All as one; None: one after the other."""
        if not self.members[0].stacks:
            return None
        if self._stack is not None and self._stack.intact:
            return self._stack
        if self._refused is not None and same_objects(self.members, self._refused):
            return None
        self._stack = InterventionStack(self.members, self._parameter) if alike(self.members) else None
        self._refused = None if self._stack else [containers(member) for member in self.members]
        return self._stack

    def act_one_by_one(
        self, seen: Sequence[Sequence[Tensor]], gradients: Sequence[Mapping[Tensor, Tensor] | None]
    ) -> None:
        for member, own, found in zip(self.members, seen, gradients, strict=True):
            if found is not None and member.needs_gradients:
                member.on_gradients(found)
            member.after_step(own)

    def release(self, index: int) -> None:
        if self._stack is not None:
            self._stack.release(index)


def _sum(interventions: Sequence[Intervention]) -> Tensor | None:
    """Of one member: all its penalties together."""
    values = [intervention.penalty() for intervention in interventions]
    given = [value for value in values if value is not None]
    return sum(given[1:], start=given[0]) if given else None
