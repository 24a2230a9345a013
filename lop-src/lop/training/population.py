"""How learners are trained side by side: one after the other, or as one computation where that is faster."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lop.nets.batched import is_layerwise
from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation, stackable

__all__ = ["Population", "make_population"]


SMALLEST_VECTORISED = 6
"""Members of a net that is no row of known layers, on the CPU: vectorising it costs about a millisecond a step, which
fewer members do not save."""

LARGEST = 1_000_000
"""Parameters of a net, on the CPU: larger ones are trained one after the other."""


def make_population(learners: Sequence[Learner]) -> Population:
    """Whatever trains these learners fastest; the results are the same within rounding.

    Measured (`benchmarks/population.py`): in a small net most of a step's time goes into Python and, on a GPU, into
    launches, which a stack pays once for all its members. Two members of an MLP, 100 wide, take 0.8 of the time that
    they take one after the other, four 0.5, sixteen 0.2 to 0.35. On the CPU large nets have nothing to save, as their
    members no longer share the cache: four of width 1000 take 0.9 to 1.15, of width 2000 0.85 to 1.4; nor have
    convolutions: 16 members as one take 1.06 to 1.35 times as long as one after the other. So are K-FAC's and L-BFGS's
    members, whose steps look at a net's layers, or at the loss several times; what K-FAC could share on the CPU is the
    pass and the calls: 16 Cholesky inverses of 65 to 101 rows at once take 0.74 to 0.95 of one after the other.
    """
    if not learners or not all(stackable(learner) and _pays(learner) for learner in learners):
        return Population(learners)
    smallest = 2 if learners[0].device.type != "cpu" or is_layerwise(learners[0].net) else SMALLEST_VECTORISED
    return StackedPopulation(learners, smallest=smallest) if len(learners) >= smallest else Population(learners)


def _pays(learner: Learner) -> bool:
    if learner.device.type != "cpu":
        return True
    convolves = any(isinstance(module, nn.modules.conv._ConvNd) for module in learner.net.modules())
    return not convolves and sum(p.numel() for p in learner.net.parameters()) <= LARGEST
