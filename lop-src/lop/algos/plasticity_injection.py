"""Plasticity injection: a new head learns beside the old one, which is frozen, and begins by adding nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lop.algos.base import Host, Intervention, intervention
from lop.nets import HiddenLayer
from lop.nets.init import fresh_parameters
from lop.utils.ranges import COUNT_OR_ZERO, require
from lop.utils.state import Generator, State, Value


class Injection(nn.Module):
    """a(x) - b(x): a newly drawn copy of a head, and what it was when it was injected. Trained: a. Buffers: b.

    No nn.Linear, so that what treats all of a net's layers alike leaves it alone.
    """

    def __init__(self, head: nn.Linear):
        super().__init__()
        self._like = [head]  # in a list, it is not a part of this module
        self.weight = nn.Parameter(torch.zeros_like(head.weight))
        self.bias = None if head.bias is None else nn.Parameter(torch.zeros_like(head.bias))
        self.fixed_weight: Tensor
        self.fixed_bias: Tensor | None
        self.register_buffer("fixed_weight", torch.zeros_like(head.weight))
        self.register_buffer("fixed_bias", None if head.bias is None else torch.zeros_like(head.bias))

    def fresh_parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        """As the head's own."""
        return fresh_parameters(self._like[0], generator)

    def forward(self, x: Tensor, stop_gradient: bool) -> Tensor:
        fixed = F.linear(x, self.fixed_weight, self.fixed_bias)
        return F.linear(x, self.weight, self.bias) - (fixed.detach() if stop_gradient else fixed)


@intervention("plasticity_injection")
class PlasticityInjection(Intervention):
    """From the start of task `task` on every head computes head(x) + a(x) - sg[b(x)], b a frozen copy of a new a.

    The old head is frozen; a's parameters join the optimizer's first group. So the outputs do not change at the
    injection, and what learns has the head's initial distribution. stop_gradient: sg; the encoder then learns through
    head and a. False: through b, too, whose parameters are frozen all the same.
    What reads or resets the head by its weights (the utilities of `cbp`, `head_reset`) sees the old one. A unit that is
    given fresh weights is silenced in a - b, too. Before the injection a and b are there, but unused. K-FAC moves a by
    plain gradients. A net with it is not stacked: populations are trained one by one.

    Nikishin et al. (2023), "Deep reinforcement learning with plasticity injection" (the published reimplementation
    freezes b's parameters, without sg). Cost: two more heads.
    """

    stackable = False
    state: ClassVar[State] = {"active": Value(False), "_generator": Generator()}
    active: bool

    def __init__(self, *, task: int = 1, stop_gradient: bool = True):
        require(COUNT_OR_ZERO, task=task)
        self.task, self.stop_gradient = task, stop_gradient

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator("plasticity_injection")
        self._heads = list(host.net.output_layers())
        self._injections = [Injection(head) for head in self._heads]
        host.net.add_module("plasticity_injection", nn.ModuleList(self._injections))
        trained = {p for group in host.optimizer.param_groups for p in group["params"]}
        for head, injection in zip(self._heads, self._injections, strict=True):
            if head.weight in trained:
                host.optimizer.param_groups[0]["params"].extend(injection.parameters())
            head.register_forward_hook(self._hook(injection))
        self.active = False

    def _hook(self, injection: Injection):
        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            return output + injection(inputs[0], self.stop_gradient) if self.active else None

        return add

    def restart(self) -> None:
        super().restart()
        for injection in self._injections:
            for fixed in injection.buffers():
                fixed.zero_()
        self._switch(False)

    def _switch(self, active: bool) -> None:
        self.active = active
        for head, injection in zip(self._heads, self._injections, strict=True):
            head.requires_grad_(not active)
            injection.requires_grad_(active)

    @torch.no_grad()
    def start_task(self, task) -> None:
        if task.index != self.task or self.active:
            return
        for injection in self._injections:
            for name, value in injection.fresh_parameters(self._generator).items():
                getattr(injection, name).copy_(value)
                getattr(injection, f"fixed_{name}").copy_(value)
        self._switch(True)

    @torch.no_grad()
    def on_units_replaced(self, layer: HiddenLayer, mask: Tensor) -> None:
        for head, injection in zip(self._heads, self._injections, strict=True):
            if self.active and head in layer.outgoing:
                positions = head.weight.shape[1] // (layer.expansion * layer.units)
                columns = mask.view(1, -1, 1).expand(layer.expansion, -1, positions).reshape(1, -1)
                injection.weight.copy_(torch.where(columns, injection.fixed_weight, injection.weight))
                self.host.optimizer.reset_entries(injection.weight, columns)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._switch(self.active)
