"""Shrink and perturb: pull all weights towards 0 and add fresh randomness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.layout import per_member
from lop.algos.randomness import fresh_net
from lop.utils.ranges import AMOUNT, SHARE, require, require_choice
from lop.utils.state import Generator, State


@intervention("shrink_and_perturb")
class ShrinkAndPerturb(Intervention):
    """form "init": p = (1 - shrink) p + scale * fresh initial parameters (Ash & Adams 2020, every task; Kumar 2023
    every step). form "noise": p = (1 - shrink) p + Gaussian noise of standard deviation `noise_std` (Dohare 2024,
    every step; its weight decay is shrink = step size * decay, or the optimizer's, or `l2`, with shrink 0).

    every: "step", after each update, or "task", at each task's end. `scale` belongs to "init", `noise_std` to "noise".
    """

    stacks = True
    varying = ("shrink", "scale", "noise_std")
    shrink: float | Tensor
    scale: float | Tensor
    noise_std: float | Tensor
    state: ClassVar[State] = {"_generator": Generator()}

    def __init__(
        self,
        *,
        form: Literal["init", "noise"] = "init",
        shrink: float = 1e-4,
        scale: float = 1e-4,
        noise_std: float = 1e-5,
        every: Literal["step", "task"] = "step",
    ):
        require_choice(("init", "noise"), form=form)
        require_choice(("step", "task"), every=every)
        require(SHARE, shrink=shrink)
        require(AMOUNT, scale=scale, noise_std=noise_std)
        self.form, self.shrink, self.scale, self.noise_std, self.every = form, shrink, scale, noise_std, every

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator("shrink_and_perturb")

    def after_step(self, features: Sequence[Tensor]) -> None:
        if self.every == "step":
            self.act()

    def end_task(self, task) -> None:
        if self.every == "task":
            self.act()

    @torch.no_grad()
    def act(self) -> None:
        """Shrink and perturb all trained parameters now."""
        if self.form == "init":
            drawn, scale = self._fresh(), self.scale
        else:
            drawn, scale = self._gaussian(), self.noise_std
        parameters, noise = [p for p, _ in drawn], [values for _, values in drawn]
        if isinstance(self.shrink, Tensor) or isinstance(scale, Tensor):
            for p, values in drawn:
                p.mul_(per_member(1 - self.shrink, p)).add_(values * per_member(scale, p))
            return
        torch._foreach_mul_(parameters, 1 - self.shrink)
        torch._foreach_add_(parameters, noise, alpha=scale)

    def _fresh(self) -> list[tuple[Tensor, Tensor]]:
        """Every parameter with a draw from its initial distribution."""
        if not self.stacked:
            return fresh_net(self.host.net, self._generator)
        drawn = [{id(p): values for p, values in fresh_net(own.host.net, own._generator)} for own in self.each()]
        return [
            (p, torch.stack([of[id(own.parameters[name])] for own, of in zip(self.each(), drawn, strict=True)]))
            for name, p in self.parameters.items()
        ]

    def _gaussian(self) -> list[tuple[Tensor, Tensor]]:
        """Every parameter with standard normal noise."""
        noise = [torch.empty_like(p) for p in self.parameters.values()]
        for i, own in enumerate(self.each()):
            for values in noise:
                (values[i] if self.stacked else values).normal_(generator=own._generator)
        return list(zip(self.parameters.values(), noise, strict=True))
