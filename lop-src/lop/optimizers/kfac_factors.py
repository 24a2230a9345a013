"""The algebra of K-FAC for one layer: Kronecker factors, their inverses, the preconditioned gradient."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lop.nets.layer_io import WeightLayer


class LayerPass(NamedTuple):
    """One layer in one differentiated pass.

    inputs (rows, features), outputs (rows, units): layer inputs and gradients of the mean loss with respect to its
    outputs, a row per sample (and position); None where nothing needs them. gradient (units, features): of the weight
    and bias; None where it is exactly outputs^T inputs. batch: number of samples. counts: whether the factors take in
    this batch.
    """

    layer: WeightLayer
    batch: int
    inputs: Tensor | None
    outputs: Tensor | None
    gradient: Tensor | None
    counts: bool

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Inputs and outputs, of a layer that the loss has reached through its calls."""
        assert self.inputs is not None
        assert self.outputs is not None
        return self.inputs, self.outputs


class Direction(NamedTuple):
    """A matrix (units, features): left^T right, or right alone where left is None. Never built when it is thin."""

    left: Tensor | None
    right: Tensor

    def norm_sq(self) -> Tensor:
        if self.left is None:
            return torch.sum(self.right * self.right)
        return torch.dot((self.left @ self.left.T).flatten(), (self.right @ self.right.T).flatten())

    def inner(self, done: LayerPass) -> Tensor:
        """<gradient, this>."""
        if self.left is None:
            assert done.gradient is not None  # as in `natural_gradient`
            return torch.sum(done.gradient * self.right)
        inputs, outputs = done.rows
        outputs, inputs = outputs.to(self.left.dtype), inputs.to(self.right.dtype)
        return torch.sum((outputs @ self.left.T) * (inputs @ self.right.T))

    def scaled(self, factor: Tensor) -> "Direction":
        if self.left is None:
            return Direction(None, self.right * factor)
        return Direction(self.left * factor, self.right)

    def add_to(self, target: Tensor, columns: slice | int, keep: float, length: float) -> None:
        """target = keep * target + length * (these columns, or this column), in place."""
        right = self.right[:, columns].to(target.dtype)
        if self.left is None:
            target.mul_(keep).add_(right.view_as(target), alpha=length)
            return
        left = self.left.to(target.dtype).T
        if target.ndim == 1:
            target.addmv_(left, right, beta=keep, alpha=length)
        else:
            target.view(len(target), -1).addmm_(left, right, beta=keep, alpha=length)


def new_state(done: LayerPass, damping: float) -> dict[str, Any]:
    """Of a layer, as `KFAC.param_state` declares it."""
    inputs, outputs = done.rows
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    sizes = {"A": inputs.shape[1], "G": outputs.shape[1]}
    return {
        "step": 0,
        "batches": 0,
        "damping": inputs.new_full((), damping, dtype=dtype),
        "factors": {name: inputs.new_zeros(size, size, dtype=dtype) for name, size in sizes.items()},
        "inverses": {},
    }


def update_factors(state: dict[str, Any], done: LayerPass, alpha: float) -> None:
    """A = E[sum_t x x^T], G = E[sum_t s s^T] / T, s = batch * outputs; averaged with decay min(alpha, 1 - 1/n)."""
    state["batches"] += 1
    decay = min(alpha, 1 - 1 / state["batches"])
    factors = state["factors"]
    inputs, outputs = (rows.to(factors["A"].dtype) for rows in done.rows)
    positions = len(inputs) / done.batch
    factors["A"].addmm_(inputs.T, inputs, beta=decay, alpha=(1 - decay) / done.batch)
    factors["G"].addmm_(outputs.T, outputs, beta=decay, alpha=(1 - decay) * done.batch / positions)


DampingSplit = Literal["sqrt", "pi"]


def factor_dampings(state: dict[str, Any], split: DampingSplit) -> dict[str, Tensor]:
    """What is added to the diagonal of A and of G; the product is `damping`.

    sqrt: sqrt(damping) each. pi: pi sqrt(damping) and sqrt(damping) / pi, pi^2 = (tr A / dim A) / (tr G / dim G), so
    that both factors are damped by the same share of their size (Martens & Grosse, 2015, section 6.3). A factor
    without any power (a dead layer) has no size: pi is 1 there.
    """
    root = state["damping"].sqrt()
    if split == "sqrt":
        return {"A": root, "G": root}
    power_a, power_g = (state["factors"][name].diagonal().mean() for name in ("A", "G"))
    # of roots: the quotient of a large and a tiny power would leave float32's range
    pi = torch.where((power_a > 0) & (power_g > 0), power_a.sqrt() / power_g.sqrt(), 1.0)
    return {"A": root * pi, "G": root / pi}


def invert_factors(state: dict[str, Any], split: DampingSplit) -> None:
    """The damped factors' inverses by Cholesky, without a check that would wait for the device."""
    dampings = factor_dampings(state, split)
    for name, factor in state["factors"].items():
        damped = factor.clone()
        damped.diagonal().add_(dampings[name])
        root, _ = torch.linalg.cholesky_ex(damped)
        state["inverses"][name] = torch.cholesky_inverse(root)


def natural_gradient(state: dict[str, Any], done: LayerPass) -> Direction:
    """G^-1 dW A^-1 with the damped inverses. A gradient of few rows is preconditioned by its rows."""
    inverse_a, inverse_g = state["inverses"]["A"], state["inverses"]["G"]
    if done.gradient is None:
        inputs, outputs = done.rows
        return Direction(outputs.to(inverse_g.dtype) @ inverse_g, inputs.to(inverse_a.dtype) @ inverse_a)
    return Direction(None, inverse_g @ done.gradient.to(inverse_g.dtype) @ inverse_a)


def thin(layer: WeightLayer, rows: int) -> bool:
    """Whether preconditioning `rows` rows costs less than preconditioning the whole gradient matrix."""
    units, features = layer.weight.shape[0], layer.weight[0].numel()
    by_rows = rows * (units * units + features * features + units * features)
    return by_rows < units * features * (units + features + rows)


def forget_rows(state: dict[str, Any], name: str, rows: Tensor, split: DampingSplit) -> None:
    """A unit starts anew: uncorrelated with the others, of their mean power. rows: bool, (size of factor `name`,).

    The cached inverse is changed alike; its other entries are exact again at the next inversion.
    """
    factor = state["factors"][name]
    power = factor.diagonal().mean()
    fill_rows(factor, rows, power)
    if state["inverses"]:
        fill_rows(state["inverses"][name], rows, 1 / (power + factor_dampings(state, split)[name]))


def fill_rows(matrix: Tensor, rows: Tensor, diagonal: float | Tensor) -> None:
    """Rows and columns of a symmetric matrix (or entries of a diagonal one) become `diagonal` times the identity's."""
    if matrix.ndim == 1:
        matrix.copy_(torch.where(rows, diagonal, matrix))
        return
    matrix.masked_fill_(rows.unsqueeze(0) | rows.unsqueeze(1), 0)
    matrix.diagonal().copy_(torch.where(rows, diagonal, matrix.diagonal()))
