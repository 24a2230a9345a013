"""The diagonal of the Hessian, estimated by Hutchinson's method, and the schedule on which it is refreshed."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure, ClosureOptimizer
from lop.optimizers.compiled import run_compiled
from lop.optimizers.evaluation import Pass
from lop.optimizers.multi_tensor import (
    Generators,
    Number,
    Signs,
    Tensors,
    add_number,
    add_quotient,
    add_root_quotient,
    blocks,
    can_fuse,
    power,
    random_signs,
    scratch_like,
)
from lop.optimizers.options import check_values
from lop.optimizers.young import Young
from lop.utils.errors import UserError


def hutchinson_diagonal(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    generator: Generators,
    n_samples: int = 1,
    kept: dict[tuple, Signs] | None = None,
) -> list[Tensor]:
    """Unbiased estimate of the Hessian's diagonal: the mean over `n_samples` of z * Hz, z of random signs.

    params, grads: parameters and their gradients, differentiable (`create_graph=True`). Returns tensors shaped like
    the parameters; zeros where the gradient does not depend on a parameter. Frees the graph of `grads`.
    generator: one, or one for each member of stacked parameters (S, ...).
    kept: holds memory, that of the estimate included, for the next call.
    Raises UserError when no gradient depends on any parameter. Hutchinson (1990); Bekas et al. (2007).
    """
    curved = [i for i, g in enumerate(grads) if g.requires_grad]
    if not curved:
        raise UserError(
            "the loss has no second derivative in any parameter (its gradients are constants): "
            "use a first-order optimizer, e.g. adam"
        )
    total: list[Tensor] = []
    for sample in range(n_samples):
        signs = random_signs(tuple(params), generator, kept if n_samples == 1 else None)
        products = torch.autograd.grad(
            [grads[i] for i in curved],
            params,
            grad_outputs=[signs[i] for i in curved],
            retain_graph=sample + 1 < n_samples,
            allow_unused=True,
            materialize_grads=True,
        )
        torch._foreach_mul_(signs, products)
        if total:
            torch._foreach_add_(total, signs)
        else:
            total = signs
    if n_samples > 1:
        torch._foreach_div_(total, n_samples)
    return total


class CurvatureOptimizer(ClosureOptimizer[Pass]):
    """Base of the optimizers that scale their step by a running estimate of the Hessian's diagonal.

    The options that they share are written here. defaults: the subclass's own options of parameter groups.
    lr, betas (of the gradient and of the curvature), eps, weight_decay: their part in the update is the subclass's.
    n_samples: probes per estimate. lazy_hessian: the estimate is refreshed on steps 1, k+1, 2k+1, ...; the double
    backward graph exists on those steps only. A parameter that first gets a gradient between two refreshes waits for
    the next one, since it has no curvature to be scaled by. compile: the update as one kernel per parameter made by
    torch.compile, compiled in the first step (half a minute or so); needs a C++ compiler.
    """

    stackable = True
    options_apart = True

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        defaults: dict[str, Any],
        *,
        lr: float,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        lazy_hessian: int = 10,
        n_samples: int = 1,
        compile: bool = False,
        **shared: Any,
    ):
        check_values({"n_samples": n_samples, "lazy_hessian": lazy_hessian})
        self.n_samples = n_samples
        self.lazy_hessian = lazy_hessian
        self.compile = compile
        common = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(model_or_params, common | defaults, **shared)

    @property
    def refresh_due(self) -> bool:
        """Whether the next step refreshes the curvature."""
        return self.steps % self.lazy_hessian == 0

    def _evaluate(self, closure: Closure) -> Pass:
        """The gradients and, on its schedule, the curvature at the current parameters."""
        if not self.refresh_due:
            return self._differentiate(closure)
        found = self._differentiate(closure, create_graph=True)
        kept = self._kept("probes")
        diagonal = hutchinson_diagonal(found.params, found.grads, self._probe_generators, self.n_samples, kept)
        self._refresh(*self._split(found.params, diagonal))
        return Pass(found.loss, found.params, [g.detach() for g in found.grads])

    def _refresh(self, params: list[Tensor], diagonal: list[Tensor]) -> None:
        """Take in a new estimate; creates the state of parameters that have none.

        diagonal: may be overwritten, and will be by the next estimate: copy what is kept.
        """
        raise NotImplementedError

    def _ready(self, params: list[Tensor], grads: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Clipped, without the parameters that wait for their first curvature estimate; counts the others' step."""
        params, grads = self._split(params, self._clipped(params, grads))
        states = [self.state[p] for p in params]
        if not all(states):
            known = [(p, g) for p, g, state in zip(params, grads, states, strict=True) if state]
            params, grads = [p for p, _ in known], [g for _, g in known]
        for state in filter(None, states):
            state["step"] += 1
        return params, grads

    def _columns(self, params: list[Tensor], *names: str) -> list[list[Tensor]]:
        """The named state tensors of the parameters."""
        return [[self.state[p][name] for p in params] for name in names]

    def _old_after(self, horizon: int | None) -> int:
        """Reset entries wait for the next refresh, as a new parameter would."""
        return super()._old_after(horizon) + self.lazy_hessian

    def _aged(self, params: list[Tensor], grads: list[Tensor]) -> AbstractContextManager[None]:
        """`_aging`, in which the life of an entry begins with a refresh."""
        return self._aging(params, grads, counts=self.refresh_due)

    def _advance(
        self, update: Callable[..., None], columns: Sequence[Tensors], numbers: dict[str, float], **options: Any
    ) -> None:
        """`update(*columns, scratch, **numbers, **options)`: entrywise, in place on the first columns.

        numbers: what changes from step to step. options: what stays.
        """
        if self.compile:
            run_compiled(update, columns, numbers, options)
            return
        kept = self._kept("scratch")
        for piece in blocks(*columns):
            update(*piece, scratch_like(piece[0], kept), **numbers, **options)


def step_numbers(group: dict[str, Any], step: int, scale: float) -> dict[str, float]:
    """What a bias-corrected momentum, divided by a power of the curvature that is `scale` times too large, needs of
    the step: what weight decay leaves, the eps to add and the step size."""
    lr, beta1 = group["lr"], group["betas"][0]
    return {
        "keep": 1 - lr * group["weight_decay"],
        "eps": group["eps"] * scale,
        "step_size": lr * scale / (1 - beta1**step),
    }


def add_preconditioned(
    params: Tensors,
    directions: Tensors,
    curvature: Tensors,
    scratch: Tensors,
    *,
    exponent: float,
    eps: Number,
    step_size: Number,
) -> None:
    """params -= step_size * directions / (curvature^exponent + eps).

    With a bias correction c of the curvature, give eps * c^exponent and step_size * c^exponent.
    """
    plain = not isinstance(eps, Tensor) and not isinstance(step_size, Tensor)
    # with eps 0 the kernel would divide 0 by 0
    if plain and eps > 0 and exponent == 0.5 and can_fuse(params, directions, curvature):
        add_root_quotient(params, directions, curvature, -float(step_size), float(eps), scratch)
        return
    power(curvature, exponent, scratch)
    add_number(scratch, eps)
    add_quotient(params, directions, scratch, -step_size)


def preconditioned(young: Young, direction: Tensor, curvature: Tensor, exponent: float) -> Tensor:
    """Recently reset entries after p -= lr * direction / (curvature^exponent + eps), with decoupled weight decay.

    As in `add_preconditioned`, from bias-corrected averages.
    """
    group = young.group
    if young.p.device.type == "cpu" and exponent in (0.5, 0.25):
        curvature = curvature.clamp_min(torch.finfo(curvature.dtype).tiny)  # as `power` does
    kept = 1 - group["lr"] * group["weight_decay"]
    return young.p * kept - group["lr"] * direction / (curvature**exponent + group["eps"])
