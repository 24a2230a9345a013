"""What the first half of a step finds out about the loss: a type per kind of optimizer."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """A differentiated forward pass: the detached loss. What else an update needs, a subclass names.

    Whoever makes only the first half of a step elsewhere (SAM) need not know which kind it is.
    """

    loss: Tensor


@dataclass(frozen=True)
class Pass(Evaluation):
    """The parameters that the loss reached, and their gradients."""

    params: list[Tensor]
    grads: list[Tensor]
