"""How much a unit still learns: the gradient that its incoming weights get, over its layer's mean."""

from __future__ import annotations

from torch import Tensor

EPS = 1e-8  # added to the layer's mean


def gradient_scores(gradient: Tensor) -> Tensor:
    """(units,): mean abs gradient of each unit's incoming weights, over its layer's mean. gradient: (units, ...).

    GraMa of Liu et al. (2025), "Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement
    learning".
    """
    of_units = gradient.abs().flatten(1).mean(1)
    return of_units / (of_units.mean() + EPS)
