"""Sassha: sharpness-aware steps scaled by the Hessian's diagonal; M-Sassha: the same with one gradient per step."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure
from lop.optimizers.curvature import CurvatureOptimizer, add_preconditioned, preconditioned, step_numbers
from lop.optimizers.entry_age import TOLERANCE, EntryRule, steps_until
from lop.optimizers.multi_tensor import Number, blocks, scale
from lop.optimizers.options import check_values
from lop.optimizers.perturbation import perturb
from lop.optimizers.registry import optimizer
from lop.optimizers.schedules import Schedule, Shape
from lop.optimizers.young import Young
from lop.utils.errors import UserError
from lop.utils.state import Fade, PerEntry, State, Value


@optimizer("sassha")
class Sassha(CurvatureOptimizer):
    """Gradient and curvature are taken at p + e, e = rho * g / norm(g), the step is made from p.

    adaptive: the norm is that of abs(p) * g, and e is scaled by p^2 (as in ASAM). At p + e: m = b1 m + (1-b1) g; on
    refresh h = b2 h + (1-b2) abs(d), and c = 1 - b2^t of that step is kept; then
    p -= lr/(1-b1^t) * m / (h^k / c^k + eps), k: hessian_power. The curvature is that at p + e, as in the paper's
    algorithm; some of the authors' scripts take it elsewhere. Weight decay is decoupled: p *= 1 - lr * weight_decay.
    The authors' scripts give the product, so their value is to be divided by the step size.
    rho_schedule, hessian_power_schedule: constant, linear or cosine, from the first value to rho_end and
    hessian_power_end within schedule_steps steps. max_grad_norm clips the gradient at p + e.
    Shin et al. (2025), "SASSHA: Sharpness-aware adaptive second-order optimization with stable Hessian approximation".
    """

    param_state: ClassVar[State] = {
        "step": Value(),
        "correction": Value(),
        "exp_avg": PerEntry(fade=Fade.SCALES),
        "hessian": PerEntry(fade=Fade.SCALES),
    }
    single_pass = False
    member_options: tuple[str, ...] = ("max_grad_norm", "rho", "rho_schedule")
    cohort_options: tuple[str, ...] = ("power_schedule",)

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.15,
        rho: float = 0.2,
        adaptive: bool = False,
        hessian_power: float = 0.5,
        rho_schedule: Shape = "constant",
        rho_end: float | None = None,
        hessian_power_schedule: Shape = "constant",
        hessian_power_end: float | None = None,
        schedule_steps: int | None = None,
        **shared: Any,
    ):
        check_values({"rho": rho})
        self.rho = rho
        self.adaptive = adaptive
        super().__init__(model_or_params, {"hessian_power": hessian_power}, lr=lr, **shared)
        if self.compile and hessian_power_schedule != "constant":
            raise UserError("needs hessian_power_schedule constant: the power is part of the kernel", option="compile")
        self.rho_schedule = Schedule("rho", rho, rho_schedule, rho_end, schedule_steps)
        self.power_schedule = Schedule(
            "hessian_power", hessian_power, hessian_power_schedule, hessian_power_end, schedule_steps
        )

    def _step(self, closure: Closure) -> Tensor:
        here = self._differentiate(closure)
        loss = here.loss
        with self._perturbed(here.params, self._moved(here.params, here.grads)):
            del here  # gradients as large as the parameters, and no longer needed
            there = self._evaluate(closure)
        self._finish(there)
        return loss

    def _moved(self, params: list[Tensor], directions: list[Tensor], sign: int = 1) -> list[Tensor]:
        moved = self._workspace(params)
        scales = [p.abs() for p in params] if self.adaptive else None
        rho = self._each(lambda own: sign * own.rho * own.rho_schedule(self.steps))
        assert rho is not None
        perturb(params, directions, rho, moved, scales=scales, stacked=self.stacked)
        return moved

    def _refresh(self, params: list[Tensor], diagonal: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=0, correction=0.0, exp_avg=torch.zeros_like(p), hessian=torch.zeros_like(p))
        for group, (step, _), members, estimates in self._cohorts(params, diagonal):
            beta2 = group["betas"][1]
            for hessian, d in blocks(*self._columns(members, "hessian"), estimates):
                torch._foreach_abs_(d)
                torch._foreach_lerp_(hessian, d, 1 - beta2)
            for p in members:
                self.state[p]["correction"] = 1 - beta2 ** (step + 1)

    def _scalars(self, state: dict[str, Any]) -> tuple:
        return state["step"], state["correction"]

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        params, grads = self._ready(params, grads)
        with self._aged(params, grads):
            for group, (step, correction), members, gradients in self._cohorts(params, grads):
                exponent = self._power(group)
                numbers = step_numbers(group, step, correction**exponent)
                columns = [members, gradients, *self._columns(members, "exp_avg", "hessian")]
                options = {"beta1": group["betas"][0], "exponent": exponent, "decay": group["weight_decay"] != 0}
                self._advance(_update, columns, numbers, **options)

    def _power(self, group: dict[str, Any]) -> float:
        """In this step."""
        return group["hessian_power"] * self._owner(group).power_schedule(self.steps)

    def _entry_rule(self, group: dict[str, Any]) -> EntryRule:
        """The curvature's correction is that of the last refresh, which an entry saw so many steps ago."""
        since = self.steps % self.lazy_hessian

        def moved(young: Young, unbias: Tensor, age: Tensor) -> Tensor:
            exponent = self._power(group)
            beta2 = young.options[0][1]
            refreshed = (age - since).clamp(min=1)
            correction = -torch.expm1(refreshed * math.log(beta2)) if beta2 else 1.0
            return preconditioned(young, young["exp_avg"] * unbias, young["hessian"] / correction, exponent)

        def horizon(betas: tuple[float, float]) -> int:
            return steps_until(TOLERANCE, *betas) + self.lazy_hessian

        return EntryRule(("betas",), horizon, _age_coefficients, moved, moments=("exp_avg", "hessian"))


@optimizer("msassha")
class MSassha(Sassha):
    """Sassha with the perturbation down the momentum of the previous step: e = -rho * m / norm(m).

    So in the authors' code, as in MSAM (Becker et al., 2024): the last step has already gone down the momentum, and a
    point further that way has the higher loss. One gradient evaluation per step: the forward pass at p only tells the
    loss (and updates BatchNorm statistics). The first step is not perturbed. Shin et al. (2025); rho 0.3 as in their
    scripts.
    """

    def __init__(self, model_or_params: nn.Module | Iterable, *, rho: float = 0.3, **shared: Any):
        super().__init__(model_or_params, rho=rho, **shared)

    def _step(self, closure: Closure) -> Tensor:
        trainable = self._trainable()
        loss = self._forward(closure, trainable).detach()
        moving = [p for p in trainable if all(self.state.get(piece) for piece in self._pieces(p))]
        values = self._moved(moving, [self._momentum(p) for p in moving], sign=-1) if moving else []
        with self._perturbed(moving, values):
            found = self._evaluate(closure)
        self._finish(found)
        return loss

    def _pieces(self, param: Tensor) -> list[Tensor]:
        return [param] if self.members is None else self.members.pieces[param]

    def _momentum(self, param: Tensor) -> Tensor:
        found = [self.state[piece]["exp_avg"] for piece in self._pieces(param)]
        return found[0] if len(found) == 1 else torch.cat(found)


def _age_coefficients(n: Tensor, betas: tuple[float, float]) -> tuple[Tensor, ...]:
    return 1 / (1 - betas[0] ** n), n


def _update(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg: list[Tensor],
    hessian: list[Tensor],
    scratch: list[Tensor],
    *,
    keep: Number,
    eps: Number,
    step_size: Number,
    beta1: float,
    exponent: float,
    decay: bool,
) -> None:
    if decay:
        scale(params, keep)
    torch._foreach_lerp_(exp_avg, grads, 1 - beta1)
    add_preconditioned(params, exp_avg, hessian, scratch, exponent=exponent, eps=eps, step_size=step_size)
