"""How learners are trained side by side: one after the other, or as one computation where that is faster."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation, stackable

__all__ = ["Population", "make_population"]


SMALLEST_STACK = {"cpu": 6}
"""Of how many members on a kind of device; elsewhere two. Vectorising costs about half a millisecond a step, which two
to four members of a small net do not save on the CPU (`benchmarks/population.py`)."""


def make_population(learners: Sequence[Learner]) -> Population:
    """Whatever trains these learners fastest; the results are the same within rounding.

    Measured: in a small net most of a step's time goes into Python and, on a GPU, into launches, which a stack pays
    once for all its members. A convolution on the CPU has nothing to save: 16 members as one take 1.06 to 1.35 times
    as long as one after the other.
    """
    smallest = SMALLEST_STACK.get(learners[0].device.type, 2) if learners else 2
    if len(learners) >= smallest and all(stackable(learner) and _pays(learner) for learner in learners):
        return StackedPopulation(learners, smallest=smallest)
    return Population(learners)


def _pays(learner: Learner) -> bool:
    convolves = any(isinstance(module, nn.modules.conv._ConvNd) for module in learner.net.modules())
    return learner.device.type != "cpu" or not convolves
