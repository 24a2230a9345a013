"""Muon: hidden weights move along their momentum made orthogonal, everything else by Adam."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lop.nets import Net
from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.entry_age import EntryRule
from lop.optimizers.evaluation import Pass
from lop.optimizers.options import check_values
from lop.optimizers.registry import optimizer
from lop.optimizers.torch_state import ADAM
from lop.optimizers.young import Young
from lop.utils.ranges import DECAY, require, require_choice
from lop.utils.state import Fade, PerEntry, State, Value

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: steep at 0, at the price of singular values that end between 0.7 and 1.2, not at 1."""


@optimizer("muon")
class Muon(ClosureOptimizer[Pass]):
    """Of a hidden weight W (out, rest): m = b m + (1-b) g; d = (1-b) g + b m; p -= lr sqrt(max(1, out/rest)) NS(d).

    NS(d): `ns_steps` Newton-Schulz steps X <- a X + (b A + c A A) X, A = X X^T, from d / norm_F(d): about the nearest
    matrix with orthonormal rows or columns. Weight decay is decoupled. nesterov: false takes d = m. Convolutions are
    matrices (out, in x positions).
    Everything else (biases, normalisations, the heads, other parameters) is moved by Adam: adam_lr, betas, eps, its
    weight decay times adam_lr. A schedule of lr is one of adam_lr, too: what is used is adam_lr x lr / (the lr given to
    the constructor). first_layer: "adam" moves the layers that read the inputs by Adam, too.
    Which layers are heads a `lop.nets.Net` says; of another module the last Linear or Conv2d is taken for the head, and
    of parameters without a net all matrices are hidden ones.

    The authors compute NS in bfloat16, we in the parameter's precision; their sqrt(max(1, rows/columns)) of a
    convolution takes the kernel's height and width (a factor of 1), ours the matrix that is made orthogonal.
    torch.optim.Muon (other defaults: 1e-3, weight decay 0.1) refuses nets with biases and convolutions.
    Cost: `ns_steps` x 3 products of the weight's size times its smaller side: 4.8 SGD steps at width 100, batch 32.
    Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".
    """

    param_state: ClassVar[State] = {
        "step": Value(),
        "momentum": PerEntry(fade=Fade.SCALES),
        "exp_avg": PerEntry(fade=Fade.SCALES),
        "exp_avg_sq": PerEntry(fade=Fade.SCALES),
    }
    stackable = True

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        first_layer: Literal["muon", "adam"] = "muon",
        adam_lr: float = 3e-4,
        betas: Sequence[float] = (0.9, 0.95),
        eps: float = 1e-10,
        **shared: Any,
    ):
        check_values({"ns_steps": ns_steps})
        require(DECAY, momentum=momentum)
        require_choice(("muon", "adam"), first_layer=first_layer)
        self.nesterov, self.ns_steps, self.first_layer, self.first_lr = nesterov, ns_steps, first_layer, lr
        options = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "adam_lr": adam_lr}
        super().__init__(model_or_params, options | {"betas": betas, "eps": eps}, **shared)
        self._not_hidden = self._others()  # parameters, which a copy has its own of

    def _others(self) -> set[Tensor]:
        """Matrices that are not hidden weights."""
        if self.model is None:
            return set()
        first: Sequence[nn.Module]
        heads: Sequence[nn.Module]
        if isinstance(self.model, Net):
            first, heads = self.model.input_layers(), self.model.output_layers()
        else:
            layers = [m for m in self.model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
            first, heads = layers[:1], layers[-1:]
        chosen = [*heads, *(first if self.first_layer == "adam" else [])]
        return {p for layer in chosen for p in layer.parameters()}

    def _is_hidden(self, param: Tensor) -> bool:
        return param.dim() - self.stacked >= 2 and param not in self._not_hidden

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        grads = self._clipped(params, grads)
        for p in params:
            if not self.state[p]:
                self._init_state(p)
            self.state[p]["step"] += 1
        hidden = [(p, g) for p, g in zip(params, grads, strict=True) if self._is_hidden(p)]
        others = [(p, g) for p, g in zip(params, grads, strict=True) if not self._is_hidden(p)]
        for p, g in hidden:
            self._move_along_orthogonal(self._group_of(p), p, g)
        if others:
            rest, slopes = [p for p, _ in others], [g for _, g in others]
            with self._aging(rest, slopes):
                for group, (step,), members, gradients in self._cohorts(rest, slopes):
                    self._move_by_adam(group, step, members, gradients)

    def _init_state(self, param: Tensor) -> None:
        names = ("momentum",) if self._is_hidden(param) else ("exp_avg", "exp_avg_sq")
        self.state[param].update({"step": 0} | {name: torch.zeros_like(param) for name in names})

    def _move_along_orthogonal(self, group: dict[str, Any], param: Tensor, grad: Tensor) -> None:
        momentum, decay = self.state[param]["momentum"], group["momentum"]
        momentum.lerp_(grad, 1 - decay)
        direction = grad.lerp(momentum, decay) if self.nesterov else momentum
        matrix = direction.flatten(1 + self.stacked)
        rows, columns = matrix.shape[-2:]
        step = orthogonalised(matrix, self.ns_steps).view_as(param)
        if group["weight_decay"]:
            param.mul_(1 - group["lr"] * group["weight_decay"])
        param.add_(step, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _adam_lr(self, group: dict[str, Any]) -> float:
        return group["adam_lr"] * (group["lr"] / self.first_lr if self.first_lr else 1.0)

    def _move_by_adam(self, group: dict[str, Any], step: int, params: list[Tensor], grads: list[Tensor]) -> None:
        (beta1, beta2), lr = group["betas"], self._adam_lr(group)
        first, second = ([self.state[p][name] for p in params] for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
        scale = torch._foreach_div(second, 1 - beta2**step)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_addcdiv_(params, first, scale, value=-lr / (1 - beta1**step))

    @torch.no_grad()
    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        """As in the base class; the momentum of a hidden weight starts at 0 and has no bias correction."""
        if self._is_hidden(param):
            if self.state.get(param):
                self.state[param]["momentum"].masked_fill_(mask, 0.0)
        else:
            super().reset_entries(param, mask)

    def _entry_rule(self, group: dict[str, Any]) -> EntryRule:
        return ADAM._replace(update=self._young)

    def _young(self, young: Young, unbias: Tensor, unbias_root: Tensor) -> Tensor:
        """Recently reset entries of what Adam moves."""
        lr, decay = self._adam_lr(young.group), young.group["weight_decay"]
        divisor = young["exp_avg_sq"].sqrt() * unbias_root + young.group["eps"]
        return young.p * (1 - lr * decay) - lr * unbias * young["exp_avg"] / divisor


def orthogonalised(matrix: Tensor, steps: int) -> Tensor:
    """U f(S) V^T of matrices U S V^T, (..., rows, columns): the quintic `steps` times of S / norm_F(S)."""
    a, b, c = COEFFICIENTS
    x = matrix.reshape(-1, *matrix.shape[-2:])
    tall = x.shape[1] > x.shape[2]
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):  # sums within the products: a pass over a 100 x 100 matrix takes a tenth of a product of it
        gram = x.mT @ x if tall else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x.view_as(matrix)
