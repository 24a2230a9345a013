"""Shampoo: every dimension of a tensor has its own preconditioner."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.evaluation import Pass
from lop.optimizers.kfac_factors import fill_rows
from lop.optimizers.options import check_values
from lop.optimizers.registry import optimizer
from lop.utils.state import Factor, Fade, PerEntry, State, Value


@optimizer("shampoo")
class Shampoo(ClosureOptimizer[Pass]):
    """m = momentum * m + G x_1 P_1 ... x_k P_k; p -= lr * m, with P_i = (H_i + epsilon I)^(-1/(2k)), k: tensor order.

    H_i: running average (precond_decay, from 0) of the gradient unfolded along dimension i, times its transpose; the
    roots P_i are refreshed on steps 1, update_freq + 1, ... by eigendecomposition. A dimension larger than
    max_precond_dim keeps the diagonal of H_i only. The step keeps the length that the roots give it: no grafting of
    another optimizer's, which later implementations add. Weight decay is decoupled. The statistics are kept in
    float32 at least. Gupta et al. (2018), "Shampoo: Preconditioned stochastic tensor optimization".
    """

    param_state: ClassVar[State] = {
        "step": Value(),
        "momentum": PerEntry(fade=Fade.SCALES),
        "statistics": Factor(fade=Fade.SCALES),
        "roots": Factor(),
    }

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        epsilon: float = 0.1,
        update_freq: int = 50,
        precond_decay: float = 0.99,
        max_precond_dim: int = 1024,
        **shared: Any,
    ):
        check_values({"update_freq": update_freq, "max_precond_dim": max_precond_dim, "precond_decay": precond_decay})
        self.update_freq = update_freq
        self.precond_decay = precond_decay
        self.max_precond_dim = max_precond_dim
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "epsilon": epsilon}
        super().__init__(model_or_params, defaults, **shared)

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        grad_of = dict(zip(params, self._clipped(params, grads), strict=True))
        for group in self.param_groups:
            members = [p for p in group["params"] if p in grad_of]
            directions = [self._precondition(p, grad_of[p], group["epsilon"]) for p in members]
            momenta = [self.state[p]["momentum"] for p in members]
            if not members:
                continue
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, directions)
            if group["weight_decay"]:
                torch._foreach_mul_(members, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(members, momenta, alpha=-group["lr"])

    def _precondition(self, param: Tensor, grad: Tensor, epsilon: float) -> Tensor:
        state = self.state[param]
        if not state:
            self._init_state(param, state)
        shape = grad.shape or (1,)
        result = grad.reshape(shape).to(state["statistics"]["0"].dtype)
        refresh = state["step"] % self.update_freq == 0
        state["step"] += 1
        for i in range(len(shape)):
            update_statistic(state["statistics"][str(i)], result, i, self.precond_decay)
        for i in range(len(shape)):
            key = str(i)
            if refresh:
                state["roots"][key] = inverse_root(state["statistics"][key], 2 * len(shape), epsilon)
            result = multiply_along(result, state["roots"][key], i)
        return result.to(param.dtype).view_as(param)

    def _init_state(self, param: Tensor, state: dict[str, Any]) -> None:
        dtype = torch.promote_types(param.dtype, torch.float32)
        sizes = param.shape or (1,)
        shapes = [(n,) if n > self.max_precond_dim else (n, n) for n in sizes]
        state["step"] = 0
        state["momentum"] = torch.zeros_like(param)
        state["statistics"] = {str(i): param.new_zeros(s, dtype=dtype) for i, s in enumerate(shapes)}
        state["roots"] = {}

    def _renew_factors(self, param: Tensor, mask: Tensor) -> None:
        """Where a whole row of a dimension is reset (a unit), its statistics restart.

        In the cached roots the row becomes that of an empty statistic, epsilon^(-1/(2k)) on the diagonal; the other
        rows are right again at the next refresh.
        """
        state, epsilon = self.state[param], self._group_of(param)["epsilon"]
        for i in range(param.ndim):
            rows = mask.movedim(i, 0).reshape(param.shape[i], -1).all(1)
            fill_rows(state["statistics"][str(i)], rows, 0.0)
            if state["roots"]:
                fill_rows(state["roots"][str(i)], rows, epsilon ** (-1 / (2 * param.ndim)))


def update_statistic(statistic: Tensor, grad: Tensor, dim: int, decay: float) -> None:
    """statistic = decay * statistic + (1 - decay) * U U^T, U the gradient unfolded along `dim` (or its diagonal)."""
    unfolded = grad.movedim(dim, 0).reshape(grad.shape[dim], -1)
    if statistic.ndim == 1:
        statistic.lerp_(unfolded.square().sum(1), 1 - decay)
    else:
        statistic.addmm_(unfolded, unfolded.T, beta=decay, alpha=1 - decay)


def inverse_root(statistic: Tensor, order: int, epsilon: float) -> Tensor:
    """(statistic + epsilon I)^(-1/order), symmetric; of a diagonal, entry by entry. NaN where it is not finite."""
    if statistic.ndim == 1:
        return (statistic + epsilon).pow(-1 / order)
    try:
        # in float64: in float32 LAPACK fails on some singular statistics, such as that of equal columns
        values, vectors = (t.to(statistic.dtype) for t in torch.linalg.eigh(statistic.double()))
    except torch.linalg.LinAlgError:  # a diverged net: NaN is the result, not a crash
        return torch.full_like(statistic, torch.nan)
    return (vectors * (values.clamp_min(0) + epsilon).pow(-1 / order)) @ vectors.T


def multiply_along(tensor: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """tensor x_dim matrix; a 1-d matrix is a diagonal."""
    if matrix.ndim == 1:
        return tensor * matrix.view([-1 if i == dim else 1 for i in range(tensor.ndim)])
    return torch.tensordot(tensor, matrix, dims=([dim], [0])).movedim(-1, dim)
