"""TRAC: any optimizer's path from the initial weights, scaled step by step by how much it has helped so far."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure
from lop.optimizers.build import get_base
from lop.optimizers.evaluation import Evaluation, Pass
from lop.optimizers.multi_tensor import scratch_like, spread
from lop.optimizers.registry import optimizer
from lop.optimizers.wrapping import DelegatingOptimizer
from lop.utils.errors import UserError
from lop.utils.ranges import DECAY, POSITIVE, require, require_all
from lop.utils.state import PARAMETERS, PerEntry, State, Whole, per_member, renew_entries

REFERENCE, SUMS = "trac_reference", "trac_sums"
OWN_STATE: State = {REFERENCE: PerEntry(PARAMETERS), SUMS: Whole()}
"""Of each parameter its values before its first step; of one of them the rows v, sigma and s, (3, discounts)."""

SIGMA_AT_START = 1e-8  # from 0 nothing would ever move


@optimizer("trac")
class TRAC(DelegatingOptimizer[Evaluation]):
    """p = p_ref + max(0, S) (D + u): u the base optimizer's step, D = (p - p_ref) / (S + eps), S = sum of s_i.

    With h = <D, g> over all parameters together, for each discount b_i: v_i = b_i^2 v_i + h^2 and sigma_i = b_i sigma_i
    - h (1e-8 at first), s_i = scale erfi(sigma_i / (sqrt(2 v_i) + eps)) / erfi(1 / sqrt(2)). p_ref: the weights before
    the first step; it never moves at task boundaries. There is nothing to tune but the base.

    base: the name of any optimizer here; its state and groups are this one's, and go on untouched. base_options: its
    hyperparameters besides lr and weight_decay; None: momentum 0.9 for sgd, else its defaults. lr, weight_decay: handed
    to the base. discounts: b_i. g is the gradient that the base uses, clipped as there; for a base that looks at the
    loss several times or in layers (sam, lbfgs, kfac) a pass of its own.
    A weight that is reset has its new value for p_ref. After `forget` all have. The authors stop at a NaN; here it
    stays one. Float32 weights far from 0 swallow the first steps (scale is 1e-8): what starts the growth of S are the
    entries near 0, as in the authors' code.
    Cost: two passes over the weights beside the base's step, 2.0 SGD steps around Adam (itself 1.24) at width 100 and
    batch 32; one copy of the weights.
    Muppidi et al. (2024), "Fast TRAC: A parameter-free optimizer for lifelong reinforcement learning".
    """

    single_pass = False
    options_apart = False  # its products are over all that the base moves

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 1e-3,
        base: str = "adam",
        base_options: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
        discounts: Sequence[float] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
        scale: float = 1e-8,
        eps: float = 1e-8,
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        require_all(DECAY, discounts=discounts)
        require(POSITIVE, scale=scale, eps=eps)
        if not discounts:
            raise UserError("must hold one number or more, got none", option="discounts")
        if base == "trac":
            raise UserError("must be another optimizer than trac", option="base")
        self.discounts, self.scale, self.eps = list(map(float, discounts)), scale, eps
        shared = {"max_grad_norm": max_grad_norm, "seed": seed}
        super().__init__(get_base(base, model_or_params, base_options, lr=lr, weight_decay=weight_decay, **shared))

    def declared(self, param: Tensor) -> State:
        return {**super().declared(param), **OWN_STATE}

    @property
    def entry_names(self) -> tuple[str, ...]:
        return (*super().entry_names, *per_member(OWN_STATE))

    @contextmanager
    def _set_aside(self) -> Iterator[dict[Tensor, dict[str, Tensor]]]:
        """Inside, the state is the base's alone: what is here of a parameter must not look like the base's to it."""
        aside = {
            p: {name: state.pop(name) for name in (REFERENCE, SUMS) if name in state} for p, state in self.state.items()
        }
        try:
            yield aside
        finally:
            for p, own in aside.items():
                if own:
                    self.state[p].update(own)

    def _step(self, closure: Closure) -> Tensor:
        with self._set_aside() as own:
            if not self.base.single_pass:
                here = self._differentiate(closure)
                path = self._look(here.params, here.grads, own)
                with self._frozen_statistics():  # that was the step's first pass
                    self.base._step(closure)
                self._scale_path(here.params, path)
                return here.loss
            found = self.base._evaluate(closure)
            if isinstance(found, Pass):
                params, grads = found.params, self.base._clipped(found.params, found.grads)
            else:
                with self._frozen_statistics():
                    here = self._differentiate(closure)
                params, grads = here.params, here.grads
            path = self._look(params, grads, own)
            self.base._finish(found)
            self._scale_path(params, path)
            return found.loss

    def _look(self, params: list[Tensor], grads: list[Tensor], own: dict) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Before the base's step: (max(0, S), p_ref, D - p), S being already that of this step."""
        sums = self._sums(params, own)
        total = sums[..., 2, :].sum(-1) + self.eps
        offsets = scratch_like(tuple(params), self._kept("offsets"))
        references, product = [], torch.zeros_like(total)
        for p, g, offset in zip(params, grads, offsets, strict=True):
            reference = own.setdefault(p, {}).get(REFERENCE)
            if reference is None:
                reference = own[p][REFERENCE] = p.detach().clone()
            torch.sub(p, reference, out=offset).div_(spread(total, p))
            product += (offset * g).flatten(1).sum(1) if self.stacked and p.dim() > 1 else self._product(offset, g)
            offset.sub_(p)
            references.append(reference)
        self._update(sums, product)
        return sums[..., 2, :].sum(-1).clamp(min=0), references, offsets

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """() or, of one number per member, (S,)."""
        return left * right if self.stacked else (left * right).sum()

    def _sums(self, params: list[Tensor], own: dict) -> Tensor:
        """(3, discounts) or, of a stack, (S, 3, discounts)."""
        for kept in own.values():
            if SUMS in kept:
                return kept[SUMS]
        first = params[0]
        shape = (*first.shape[: int(self.stacked)], 3, len(self.discounts))
        sums = first.new_zeros(shape, dtype=torch.promote_types(first.dtype, torch.float32))
        sums[..., 1, :] = SIGMA_AT_START
        own.setdefault(first, {})[SUMS] = sums
        return sums

    def _update(self, sums: Tensor, product: Tensor) -> None:
        h = product.unsqueeze(-1).to(sums.dtype)
        kept = self._kept("discounts")
        if sums.device not in kept:
            kept[sums.device] = sums.new_tensor(self.discounts)
        discounts = kept[sums.device]
        variance, sigma, s = sums.unbind(-2)
        variance.mul_(discounts**2).add_(h**2)
        sigma.mul_(discounts).sub_(h)
        s.copy_(erfi(sigma / ((2 * variance).sqrt() + self.eps)) * (self.scale / _ERFI_AT_HALF_ROOT))

    def _scale_path(self, params: list[Tensor], path: tuple[Tensor, list[Tensor], list[Tensor]]) -> None:
        """After the base's step."""
        factor, references, offsets = path
        for p, reference, offset in zip(params, references, offsets, strict=True):
            offset.add_(p).mul_(spread(factor.to(p.dtype), p))
            torch.add(reference, offset, out=p)

    @torch.no_grad()
    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        """As the base does; their path starts again, where they are now."""
        with self._set_aside() as own:
            self.base.reset_entries(param, mask)
        renew_entries(param, own.get(param, {}), OWN_STATE, mask, self._group_of(param))

    def fade(self, factor: float) -> None:
        with self._set_aside():
            self.base.fade(factor)


TERMS = 200
"""Of the series: exact to rounding up to x = 9, where erfi is 1e34."""


def erfi(x: Tensor) -> Tensor:
    """The imaginary error function -i erf(i x), entry by entry, in x's precision (float32 or float64).

    2 / sqrt(pi) x the sum over k of x^(2k+1) / (k! (2k+1)): all terms have one sign, so nothing cancels.
    """
    powers, logs = _series(x.device, x.dtype)
    terms = (x.abs().unsqueeze(-1).log() * powers - logs).exp()
    return torch.copysign(terms.sum(-1), x) * (2 / math.sqrt(math.pi))


@cache
def _series(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """2k + 1, and log(k! (2k + 1)); on the device, for which a step would otherwise wait."""
    k = torch.arange(TERMS, dtype=torch.float64)
    return (2 * k + 1).to(device, dtype), (torch.lgamma(k + 1) + torch.log(2 * k + 1)).to(device, dtype)


_ERFI_AT_HALF_ROOT = erfi(torch.tensor(0.5, dtype=torch.float64).sqrt()).item()
