"""Selective weight reinitialisation (SWR): single weights that are of least use are drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.randomness import fresh_net
from lop.nets.init import fresh_parameters
from lop.utils.ranges import AMOUNT, COUNT, DECAY, require, require_choice
from lop.utils.state import NOTHING, Generator, PerEntry, State, Value, Whole


@intervention("swr")
class SWR(Intervention):
    """Every `period` steps, in each parameter tensor on its own, the entries of least utility are drawn anew.

    utility: "gradient", abs(g p) with the step's gradient and the weight after it, or "magnitude", abs(p). decay: above
    0, a running average of it over the steps, which starts again at 0 after each reset; 0: the last step's.
    prune: "threshold": entries of at most `factor` times their tensor's mean utility; "share": the lowest share
    `factor` of a tensor's entries, a fraction of an entry by chance.
    reinit: "initial": from the initial distribution; "normal": Gaussian with the mean and standard deviation that the
    tensor began with; "mean": that distribution's mean, 1 for scales of normalisations and else 0.
    reset_optimizer: the optimizer forgets these entries; the authors leave its state. Biases, normalisations and heads
    are tensors like others (a bias that begins at 0 is drawn as 0).

    Hernandez-Garcia et al. (2025), "Reinitializing weights vs units for maintaining plasticity in neural networks",
    from the authors' code: gradient, threshold with factor 1e-5, resampled every 2,048 steps, no decay on permuted
    MNIST (batch 30). Their "resample" is Gaussian.
    Cost: every `period` steps a copy of the gradients and a draw of all parameters; with decay a few passes per step.
    """

    state: ClassVar[State] = {
        "steps": Value(0),
        "_average": PerEntry(NOTHING),
        "_moments": Whole([]),
        "_generator": Generator(),
        "_chances": Generator(),
    }
    steps: int
    _average: dict[str, Tensor]
    _moments: list[list[Tensor]]

    def __init__(
        self,
        *,
        period: int = 2048,
        factor: float = 1e-5,
        utility: Literal["gradient", "magnitude"] = "gradient",
        prune: Literal["threshold", "share"] = "threshold",
        reinit: Literal["initial", "normal", "mean"] = "initial",
        decay: float = 0.0,
        reset_optimizer: bool = False,
    ):
        require(COUNT, period=period)
        require(AMOUNT, factor=factor)
        require_choice(("gradient", "magnitude"), utility=utility)
        require_choice(("threshold", "share"), prune=prune)
        require_choice(("initial", "normal", "mean"), reinit=reinit)
        require(DECAY, decay=decay)
        self.period, self.factor, self.utility, self.prune = period, factor, utility, prune
        self.reinit, self.decay, self.reset_optimizer = reinit, decay, reset_optimizer

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._generator = host.make_generator("swr")
        self._chances = host.make_generator("swr", "chances", device="cpu")

    def restart(self) -> None:
        super().restart()
        if self.decay:
            self._average = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        if self.reinit == "normal":
            self._moments = [[p.detach().mean(), p.detach().std(correction=0)] for p in self.parameters.values()]

    @property
    def _due(self) -> bool:
        return (self.steps + 1) % self.period == 0

    @property
    def needs_gradients(self) -> bool:
        return self.utility == "gradient" and (self._due or self.decay > 0)

    @torch.no_grad()
    def on_gradients(self, gradients: Mapping[Tensor, Tensor]) -> None:
        self._observe(
            [(p * gradients[p]).abs() if p in gradients else torch.zeros_like(p) for p in self.parameters.values()]
        )

    @torch.no_grad()
    def after_step(self, features: Sequence[Tensor]) -> None:
        if self.utility == "magnitude" and (self._due or self.decay):
            self._observe([p.abs() for p in self.parameters.values()])
        self.steps += 1

    def _observe(self, utilities: list[Tensor]) -> None:
        """What the weights are of use for in this step: taken in, and acted upon when it is time."""
        if self.decay:
            averages = list(self._average.values())
            torch._foreach_lerp_(averages, utilities, 1 - self.decay)
            utilities = averages
        if self._due:
            self._reinitialise([self._least_useful(utility) for utility in utilities])
            for average in self._average.values():
                average.zero_()

    def _least_useful(self, utility: Tensor) -> Tensor:
        """bool, of the tensor's shape."""
        if self.prune == "threshold":
            return utility <= self.factor * utility.mean()
        wanted = self.factor * utility.numel()
        number = int(wanted + torch.rand((), generator=self._chances).item())
        chosen = torch.zeros(utility.numel(), dtype=torch.bool, device=utility.device)
        lowest = utility.flatten().argsort(stable=True)[:number]
        return chosen.index_fill_(0, lowest, True).view_as(utility)

    def _reinitialise(self, masks: list[Tensor]) -> None:
        for p, mask, fresh in zip(self.parameters.values(), masks, self._drawn(), strict=True):
            p.copy_(torch.where(mask, fresh, p))
            if self.reset_optimizer:
                self.host.optimizer.reset_entries(p, mask)

    def _drawn(self) -> list[Tensor]:
        """New values for all entries of all tensors."""
        if self.reinit == "normal":
            return [
                mean + std * torch.empty_like(p).normal_(generator=self._generator)
                for p, (mean, std) in zip(self.parameters.values(), self._moments, strict=True)
            ]
        pairs = fresh_net(self.host.net, self._generator) if self.reinit == "initial" else self._means()
        values = {id(p): value for p, value in pairs}
        return [values.get(id(p), p) for p in self.parameters.values()]  # another may have frozen some: they stay

    def _means(self) -> list[tuple[Tensor, Tensor]]:
        """Every parameter with the mean of its initial distribution: layers are drawn around 0, norms are not drawn."""
        return [
            (p, torch.zeros_like(p) if hasattr(module, "init") else fresh_parameters(module, self._generator)[name])
            for module in self.host.net.modules()
            for name, p in module.named_parameters(recurse=False)
        ]
