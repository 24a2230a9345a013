"""UPGD: gradient descent with noise, both withheld from weights in proportion to what they are good for."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure, ClosureOptimizer
from lop.optimizers.curvature import hutchinson_diagonal
from lop.optimizers.evaluation import Pass
from lop.optimizers.multi_tensor import random_normals, scratch_like, spread
from lop.optimizers.options import check_values
from lop.optimizers.registry import optimizer
from lop.utils.state import Fade, PerEntry, State


@optimizer("upgd")
class UPGD(ClosureOptimizer[Pass]):
    """p = (1 - lr wd) p - lr k (g + sigma xi) (1 - s), xi standard normal, s in (0, 1) the weight's scaled utility.

    Utility: u = b u + (1-b) (-g p), what the loss would rise by, to first order, if the weight became 0;
    `second_order`: u of 0.5 h p^2 - g p. Scaled: s = sigmoid(u_hat / max u), u_hat = u / (1 - b^t), the maximum over
    all parameters that the loss reached, biases and head included. That maximum is the authors' uncorrected one, so for
    about 1/(1-b) steps nearly every useful weight has s near 1 (and one that hurts, near 0); `corrected_max`: that of
    u_hat, ours. Where the maximum is 0 (nothing learned yet) u_hat is divided by 1.

    beta_utility: b. sigma: of the noise. local: s = sigmoid(u_hat / norm2 of its row along the last dimension), no
    maximum. protecting: false withholds the noise only, g + sigma xi (1 - s). adaptive: Adam's m_hat / (sqrt(v_hat) +
    eps) (betas, eps) in place of g, with the noise not divided (the authors' AdaptiveUPGD, protecting).
    step_factor: k; None: 1, with `adaptive` 2. The form in the authors' README has 2, their experiments 1. Weight decay
    is not multiplied. lazy_hessian, n_samples: h is Hutchinson's estimate, renewed on steps 1, k+1, ...; a parameter
    first reached between has h = 0 until then. The authors estimate h by HesScale.
    Bias corrections are kept per entry, so that a reset weight is a new one. Cost: one gradient and one normal draw per
    weight (2.3 SGD steps at width 100, batch 32); `second_order` one double backward pass more per estimate.
    Elsayed & Mahmood (2024), "Addressing loss of plasticity and catastrophic forgetting in continual learning"; their
    step sizes are 1e-2 to 1e-5, b 0.999 or 0.9999, sigma 1e-3 to 1.
    """

    param_state: ClassVar[State] = {
        "avg_utility": PerEntry(fade=Fade.SCALES),
        "utility_weight": PerEntry(),
        "exp_avg": PerEntry(fade=Fade.SCALES),
        "exp_avg_weight": PerEntry(),
        "exp_avg_sq": PerEntry(fade=Fade.SCALES),
        "exp_avg_sq_weight": PerEntry(),
        "diagonal": PerEntry(),
    }
    stackable = True

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.01,
        weight_decay: float = 1e-3,
        beta_utility: float = 0.9999,
        sigma: float = 0.01,
        protecting: bool = True,
        local: bool = False,
        second_order: bool = False,
        corrected_max: bool = False,
        adaptive: bool = False,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-5,
        step_factor: float | None = None,
        lazy_hessian: int = 1,
        n_samples: int = 1,
        **shared: Any,
    ):
        check_values({"lazy_hessian": lazy_hessian, "n_samples": n_samples})
        self.protecting, self.local, self.adaptive = protecting, local, adaptive
        self.second_order, self.corrected_max = second_order, corrected_max
        self.lazy_hessian, self.n_samples = lazy_hessian, n_samples
        factor = (2.0 if adaptive else 1.0) if step_factor is None else step_factor
        options = {"lr": lr, "weight_decay": weight_decay, "beta_utility": beta_utility, "sigma": sigma}
        super().__init__(model_or_params, options | {"betas": betas, "eps": eps, "step_factor": factor}, **shared)

    def _evaluate(self, closure: Closure) -> Pass:
        if not self.second_order or self.steps % self.lazy_hessian:
            return self._differentiate(closure)
        found = self._differentiate(closure, create_graph=True)
        kept = self._kept("probes")
        diagonal = hutchinson_diagonal(found.params, found.grads, self._probe_generators, self.n_samples, kept)
        self._make_state(found.params)
        torch._foreach_copy_([self.state[p]["diagonal"] for p in found.params], diagonal)
        return Pass(found.loss, found.params, [g.detach() for g in found.grads])

    def _make_state(self, params: list[Tensor]) -> None:
        names = ["avg_utility", "utility_weight"]
        names += ["diagonal"] if self.second_order else []
        names += ["exp_avg", "exp_avg_weight", "exp_avg_sq", "exp_avg_sq_weight"] if self.adaptive else []
        for p in params:
            if not self.state[p]:
                self.state[p].update({name: torch.zeros_like(p) for name in names})

    def restart_clock(self) -> None:
        """The averages stay, and their weights are those of none."""
        super().restart_clock()
        for state in self.state.values():
            for name in state.keys() & {"utility_weight", "exp_avg_weight", "exp_avg_sq_weight"}:
                state[name].zero_()

    def _scalars(self, state: dict[str, Any]) -> tuple:
        return ()  # bias corrections are kept per entry

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        grads = self._clipped(params, grads)
        self._make_state(params)
        utilities = scratch_like(tuple(params), self._kept("utilities"))  # u_hat
        for group, _, members, gradients, corrected in self._cohorts(params, grads, utilities):
            self._gather(group, members, gradients, corrected)
        gates = self._gates(params, utilities)
        noise = random_normals(params, self._probe_generators, scratch_like(tuple(params), self._kept("noise")))
        for group, _, members, gradients, gate, xi in self._cohorts(params, grads, gates, noise):
            self._move(group, members, gradients, gate, xi)

    def _columns(self, params: list[Tensor], name: str) -> list[Tensor]:
        return [self.state[p][name] for p in params]

    def _average(self, params: list[Tensor], name: str, weight: str, values: list[Tensor], decay: float) -> None:
        """The running average, and the sum of the weights in it: average / weight has no bias."""
        torch._foreach_lerp_(self._columns(params, name), values, 1 - decay)
        weights = self._columns(params, weight)
        torch._foreach_mul_(weights, decay)
        torch._foreach_add_(weights, 1 - decay)

    def _gather(self, group: dict, params: list[Tensor], grads: list[Tensor], corrected: list[Tensor]) -> None:
        """Take in a gradient; `corrected` becomes u_hat."""
        utility = list(torch._foreach_mul(grads, params))
        torch._foreach_neg_(utility)
        if self.second_order:
            curvature = torch._foreach_mul(params, params)
            torch._foreach_addcmul_(utility, curvature, self._columns(params, "diagonal"), value=0.5)
        self._average(params, "avg_utility", "utility_weight", utility, group["beta_utility"])
        torch._foreach_copy_(corrected, self._columns(params, "avg_utility"))
        torch._foreach_div_(corrected, self._columns(params, "utility_weight"))
        if self.adaptive:
            beta1, beta2 = group["betas"]
            self._average(params, "exp_avg", "exp_avg_weight", grads, beta1)
            squares = list(torch._foreach_mul(grads, grads))
            self._average(params, "exp_avg_sq", "exp_avg_sq_weight", squares, beta2)

    def _gates(self, params: list[Tensor], utilities: list[Tensor]) -> list[Tensor]:
        """1 - s, in the memory of the utilities."""
        if self.local:
            lengths = [self._row_norm(u) for u in utilities]
        else:
            highest = self._highest(utilities if self.corrected_max else self._columns(params, "avg_utility"))
            lengths = [spread(torch.where(highest == 0, 1.0, highest), u) for u in utilities]
        for u, length in zip(utilities, lengths, strict=True):
            u.div_(length).neg_().sigmoid_()
        return utilities

    def _row_norm(self, utility: Tensor) -> Tensor:
        rows = utility if utility.dim() > self.stacked else utility.unsqueeze(-1)  # a number is a row of one
        return torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(1e-12).view(*utility.shape[:-1], -1)

    def _highest(self, tensors: list[Tensor]) -> Tensor:
        """() or, of a stack, (S,)."""
        if self.stacked:
            return torch.stack([t.flatten(1).amax(1) if t.dim() > 1 else t for t in tensors]).amax(0)
        return torch.stack([t.max() for t in tensors]).max()

    def _move(
        self, group: dict, params: list[Tensor], grads: list[Tensor], gates: list[Tensor], noise: list[Tensor]
    ) -> None:
        torch._foreach_mul_(noise, group["sigma"])
        direction = self._direction(group, params) if self.adaptive else grads
        if self.protecting:
            torch._foreach_add_(noise, direction)
            torch._foreach_mul_(noise, gates)
        else:
            torch._foreach_mul_(noise, gates)
            torch._foreach_add_(noise, direction)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, noise, alpha=-group["lr"] * group["step_factor"])

    def _direction(self, group: dict, params: list[Tensor]) -> list[Tensor]:
        """Adam's."""
        scale = torch._foreach_div(self._columns(params, "exp_avg_sq"), self._columns(params, "exp_avg_sq_weight"))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, group["eps"])
        direction = torch._foreach_div(self._columns(params, "exp_avg"), self._columns(params, "exp_avg_weight"))
        torch._foreach_div_(direction, scale)
        return list(direction)
