"""The gradients that flow to parameters, seen from outside the optimizer that asks for them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle


class GradientRecorder:
    """Records the first gradient that arrives at each parameter inside `with recorder:`, whoever differentiates.

    That is the gradient of a step's first backward pass, before the optimizer clips or preconditions it. The hooks
    exist inside only. `gradients`: of the last recorded stretch, detached copies whose memory is used again by the
    next; a parameter that none has reached is missing.
    """

    def __init__(self, parameters: Iterable[Tensor]):
        self.gradients: dict[Tensor, Tensor] = {}
        self._parameters = list(parameters)
        self._memory: dict[Tensor, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> GradientRecorder:
        self.gradients = {}
        trained = [p for p in self._parameters if p.requires_grad]  # another intervention may freeze some later
        self._handles = [p.register_hook(self._hook(p)) for p in trained]
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, parameter: Tensor):
        def record(gradient: Tensor) -> None:
            if parameter not in self.gradients:
                if parameter not in self._memory:
                    self._memory[parameter] = torch.empty_like(parameter)
                self.gradients[parameter] = self._memory[parameter].copy_(gradient.detach())

        return record


def is_watched(parameter: Tensor) -> bool:
    """Whether somebody wants to see the gradient that flows to it: a hook is on it."""
    return bool(parameter._backward_hooks)
