"""Schedules of a hyperparameter over the steps of a run."""

import math
from typing import Literal

from lop.optimizers.options import check_values
from lop.utils.errors import UserError
from lop.utils.ranges import require_choice

Shape = Literal["constant", "linear", "cosine"]


class Schedule:
    """A multiple of a hyperparameter's first value, from 1 at the first step to end / first at step `steps`.

    constant: always 1. linear, cosine: along a line, or half a cosine wave; the end value afterwards.
    name: of the hyperparameter, for the messages of UserError.
    """

    def __init__(self, name: str, first: float, shape: Shape, end: float | None, steps: int | None):
        require_choice(("constant", "linear", "cosine"), **{f"{name}_schedule": shape})
        check_values({f"{name}_end": end, "schedule_steps": steps})
        self.shape = shape
        self.end_multiple, self.steps = 1.0, 1
        if shape == "constant":
            return
        if end is None or steps is None or first == 0:
            raise UserError(f"{shape!r} needs {name} > 0, {name}_end and schedule_steps", option=f"{name}_schedule")
        self.end_multiple, self.steps = end / first, steps

    def __call__(self, step: int) -> float:
        """The multiple at a step, counted from 0."""
        done = min(step / self.steps, 1.0)
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return 1.0 + (self.end_multiple - 1.0) * done if self.shape != "constant" else 1.0
