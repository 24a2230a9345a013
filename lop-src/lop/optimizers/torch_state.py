"""What the classes of `torch.optim` keep per entry, where a new entry starts, and how one of a given age moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, optim

from lop.optimizers.entry_age import TOLERANCE, EntryRule, steps_until
from lop.optimizers.young import Young
from lop.utils.state import MEAN, Fade, Kind, PerEntry, State, Value, Whole


class TorchState(NamedTuple):
    """declared: what is held for a parameter. rule(group): how the age of an entry matters; None: not at all.
    elementwise: no entry's step depends on another's."""

    declared: State
    rule: Callable[[dict[str, Any]], EntryRule | None] = lambda group: None
    elementwise: bool = True


def _adam_horizon(betas: tuple[float, float], *rest: Any) -> int:
    return steps_until(TOLERANCE, *betas)


def _adam_coefficients(n: Tensor, betas: tuple[float, float]) -> tuple[Tensor, ...]:
    return 1 / (1 - betas[0] ** n), (1 - betas[1] ** n).rsqrt()


def _adam(young: Young, unbias: Tensor, unbias_root: Tensor) -> Tensor:
    group = young.group
    divisor = young["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
    divisor.sqrt_().mul_(unbias_root).add_(group["eps"])
    return torch.addcdiv(young.decayed(), unbias.mul_(young["exp_avg"]), divisor, value=-group["lr"], out=divisor)


ADAM = EntryRule(("betas",), _adam_horizon, _adam_coefficients, _adam)


def _nadam_horizon(betas: tuple[float, float], momentum_decay: float) -> int:
    return max(_adam_horizon(betas), steps_until(TOLERANCE, 0.96**momentum_decay))


def _nadam_coefficients(n: Tensor, betas: tuple[float, float], momentum_decay: float) -> tuple[Tensor, ...]:
    def mu(step: Tensor) -> Tensor:
        return betas[0] * (1 - 0.5 * 0.96 ** (step * momentum_decay))

    count = int(n[n.isfinite()].max())
    products = mu(torch.arange(1, count + 2, dtype=n.dtype, device=n.device)).cumprod(0)
    products = torch.cat([products, products.new_zeros(1)])
    place = n.clamp(max=count + 2).long() - 1
    now, following = products[place], products[(place + 1).clamp(max=count + 1)]
    return (1 - mu(n)) / (1 - now), mu(n + 1) / (1 - following), (1 - betas[1] ** n).rsqrt()


def _nadam(young: Young, of_gradient: Tensor, of_momentum: Tensor, unbias_root: Tensor) -> Tensor:
    divisor = young["exp_avg_sq"].sqrt() * unbias_root + young.group["eps"]
    direction = of_gradient * young.gradient() + of_momentum * young["exp_avg"]
    return young.decayed() - young.group["lr"] * direction / divisor


def _radam_horizon(betas: tuple[float, float]) -> int:
    return steps_until(TOLERANCE / 10, *betas)  # the rectification comes to 1 as n b2^n / rho_inf comes to 0


def _radam_coefficients(n: Tensor, betas: tuple[float, float]) -> tuple[Tensor, ...]:
    correction = 1 - betas[1] ** n
    most = 2 / (1 - betas[1]) - 1
    vanishing = torch.where(n.isfinite(), n * betas[1] ** n, 0.0)
    length = most - 2 * vanishing / correction
    rectified = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
    adaptive = torch.where(length > 5, rectified.clamp(min=0).sqrt() * correction.sqrt(), 0.0)
    return 1 / (1 - betas[0] ** n), adaptive


def _radam(young: Young, unbias: Tensor, adaptive: Tensor) -> Tensor:
    group = young.group
    scale = torch.where(adaptive > 0, adaptive / (young["exp_avg_sq"].sqrt() + group["eps"]), 1.0)
    return young.decayed() - group["lr"] * unbias * young["exp_avg"] * scale


def _adamax(young: Young, unbias: Tensor) -> Tensor:
    return young.p - young.group["lr"] * unbias * young["exp_avg"] / young["exp_inf"]


ADAMAX = EntryRule(
    ("betas",),
    lambda betas: steps_until(TOLERANCE, betas[0]),
    lambda n, betas: (1 / (1 - betas[0] ** n),),
    _adamax,
)


def _asgd_coefficients(n: Tensor, lr: float, lambd: float, alpha: float, t0: float) -> tuple[Tensor, ...]:
    return lr / (1 + lambd * lr * (n - 1)) ** alpha, 1 / (n - 1 - t0).clamp(min=1)


def _asgd(young: Young, eta: Tensor, share: Tensor) -> Tensor:
    moved = young.p * (1 - young.group["lambd"] * eta) - eta * young.gradient()
    young["ax"] = torch.where(share == 1, moved, young.before["ax"] + (moved - young.before["ax"]) * share)
    return moved


ASGD = EntryRule(("lr", "lambd", "alpha", "t0"), lambda *options: None, _asgd_coefficients, _asgd, before=("ax",))


def _adagrad(young: Young, length: Tensor) -> Tensor:
    return young.p - length * young.gradient() / (young["sum"].sqrt() + young.group["eps"])


ADAGRAD = EntryRule(
    ("lr", "lr_decay"),
    lambda lr, lr_decay: None,
    lambda n, lr, lr_decay: (lr / (1 + (n - 1) * lr_decay),),
    _adagrad,
)


def _damped_momentum(young: Young, first: Tensor) -> Tensor:
    """The first gradient enters a new buffer undamped."""
    young["momentum_buffer"] = torch.where(first > 0, young.gradient(), young["momentum_buffer"])
    return young.p - young.group["lr"] * young["momentum_buffer"]


SGD = EntryRule((), lambda: 1, lambda n: ((n == 1).double(),), _damped_momentum)


def _averages(*names: str, numbers: Sequence[str] = ("step",), **others: Kind) -> dict[str, Kind]:
    """names: of running averages of the entries, which start at 0."""
    averages: dict[str, Kind] = {name: PerEntry(fade=Fade.SCALES) for name in names}
    return averages | {name: Value() for name in numbers} | others


_ADAM_STATE = TorchState(_averages("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), rule=lambda group: ADAM)

TORCH_STATE: dict[type[optim.Optimizer], TorchState] = {
    optim.Adam: _ADAM_STATE,
    optim.AdamW: _ADAM_STATE,
    optim.NAdam: TorchState(
        _averages("exp_avg", "exp_avg_sq", numbers=("step", "mu_product")),
        rule=lambda group: EntryRule(("betas", "momentum_decay"), _nadam_horizon, _nadam_coefficients, _nadam),
    ),
    optim.RAdam: TorchState(
        _averages("exp_avg", "exp_avg_sq"),
        rule=lambda group: EntryRule(("betas",), _radam_horizon, _radam_coefficients, _radam),
    ),
    optim.Adamax: TorchState(_averages("exp_avg", "exp_inf"), rule=lambda group: ADAMAX),
    optim.ASGD: TorchState(_averages(numbers=("step", "eta", "mu"), ax=PerEntry()), rule=lambda group: ASGD),
    optim.Adagrad: TorchState(
        _averages(sum=PerEntry("initial_accumulator_value", Fade.SCALES)),
        rule=lambda group: ADAGRAD if group["lr_decay"] else None,
    ),
    optim.Adadelta: TorchState(_averages("square_avg", "acc_delta")),
    optim.RMSprop: TorchState(_averages("square_avg", "grad_avg", "momentum_buffer")),
    optim.Rprop: TorchState(_averages("prev", step_size=PerEntry("lr"))),
    optim.SGD: TorchState(
        _averages("momentum_buffer", numbers=()),
        rule=lambda group: SGD if group["momentum"] and group["dampening"] else None,
    ),
    # its history is of all parameters together, and held for the first one
    optim.LBFGS: TorchState(
        {
            **_averages(numbers=("func_evals", "n_iter", "t", "H_diag", "prev_loss")),
            **dict.fromkeys(("d", "old_dirs", "old_stps", "ro", "prev_flat_grad", "al"), Whole()),
        },
        elementwise=False,
    ),
}
if hasattr(optim, "Adafactor"):
    # its averages of matrices are of rows and columns, and its steps depend on all entries together
    TORCH_STATE[optim.Adafactor] = TorchState(
        _averages(variance=PerEntry(MEAN, Fade.SCALES), row_var=Whole(), col_var=Whole()), elementwise=False
    )
