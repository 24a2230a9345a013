"""Why a diagnostic has no value, or only a bound: values, with their text."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch


class Reason(StrEnum):
    """The value is the text that the run folder's events show."""

    NON_FINITE_LOSS = "non-finite loss"
    NON_FINITE_PARAMETERS = "non-finite weights"
    NON_FINITE_ACTIVATIONS = "non-finite activations"
    NON_FINITE_OUTPUTS = "non-finite outputs"
    NON_FINITE_GRADIENTS = "non-finite gradients"
    NOT_FINITE = "the value itself is infinite or undefined"
    NO_ACCURACY = "a regression has no accuracy"
    NO_TRAIN_SPLIT = "the benchmark has no train split"
    NO_TEST_SPLIT = "the benchmark has no test split"
    NOT_MEASURED_BEFORE = "the outputs before this task were not measured"
    NO_STEP = "no single update of this task was watched"
    NO_HIDDEN_LAYER = "the net has no hidden layer"
    NO_GRADIENT = "the outputs do not depend on the parameters"
    RANK_DEFICIENT = "not of full rank"
    ZERO_MATRIX = "the matrix is zero"
    MIXED_EXAMPLES = "a BatchNorm without running statistics mixes the examples"
    FAILED = "the computation failed"
    OTHER = "undefined"

    @property
    def diverged(self) -> bool:
        """Whether it says that the net has diverged."""
        return self in _DIVERGED


_DIVERGED = frozenset(
    {
        Reason.NON_FINITE_LOSS,
        Reason.NON_FINITE_PARAMETERS,
        Reason.NON_FINITE_ACTIVATIONS,
        Reason.NON_FINITE_OUTPUTS,
        Reason.NON_FINITE_GRADIENTS,
    }
)
torch.serialization.add_safe_globals([Reason])  # a checkpoint within a task holds what was measured before it


class UndefinedMetricError(Exception):
    """A value that does not exist here (no test split, a kernel that is zero). detail: what the reason leaves open."""

    def __init__(self, reason: Reason = Reason.OTHER, detail: str = ""):
        super().__init__(explained(reason, detail))
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Limited:
    """What a diagnostic returns for a value that is only a bound: `value` as usual, with the reason."""

    value: Any
    reason: Reason
    detail: str = ""


def explained(reason: Reason, detail: str = "") -> str:
    """`not of full rank: 3 of 32`."""
    return f"{reason}: {detail}" if detail else str(reason)
