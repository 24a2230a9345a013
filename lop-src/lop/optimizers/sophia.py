"""Sophia: the momentum divided by the Hessian's diagonal, clipped entry by entry."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lop.optimizers.base import Closure
from lop.optimizers.curvature import CurvatureOptimizer
from lop.optimizers.entry_age import EntryRule
from lop.optimizers.evaluation import Pass
from lop.optimizers.multi_tensor import Number, add_multiple, blocks, scale
from lop.optimizers.registry import optimizer
from lop.utils.errors import UserError
from lop.utils.state import Fade, PerEntry, State, Value


@optimizer("sophiah", "sophia")
class SophiaH(CurvatureOptimizer):
    """p -= lr * sign(m) * min(abs(m) / (clip_threshold * max(h, 0) + eps), 1), m = b1 m + (1-b1) g.

    On refresh h = b2 h + (1-b2) d with Hutchinson's estimate d; no bias corrections. An entry without positive
    curvature takes the full step lr * sign(m). Weight decay is decoupled. clip_threshold is what the authors' code
    calls rho (their paper, from its later version on, gamma); they train language models with lr 1e-4, clip_threshold
    0.04, weight_decay 0.1 and eps 1e-15. Liu et al. (2024), "Sophia: A scalable stochastic second-order optimizer".
    """

    param_state: ClassVar[State] = {
        "step": Value(),
        "exp_avg": PerEntry(fade=Fade.SCALES),
        "hessian": PerEntry(fade=Fade.SCALES),
    }

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.003,
        betas: Sequence[float] = (0.965, 0.99),
        clip_threshold: float = 1.0,
        **shared: Any,
    ):
        super().__init__(model_or_params, {"clip_threshold": clip_threshold}, lr=lr, betas=betas, **shared)

    def _refresh(self, params: list[Tensor], diagonal: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=0, exp_avg=torch.zeros_like(p), hessian=torch.zeros_like(p))
        for group, _, members, estimates in self._cohorts(params, diagonal):
            for hessian, d in blocks([self.state[p]["hessian"] for p in members], estimates):
                torch._foreach_lerp_(hessian, d, 1 - group["betas"][1])

    def _scalars(self, state: dict[str, Any]) -> tuple:
        return ()  # no bias correction, so the update does not depend on the step

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        params, grads = self._ready(params, grads)
        with self._aged(params, grads):
            for group, _, members, gradients in self._cohorts(params, grads):
                columns = [members, gradients, *self._columns(members, "exp_avg"), self._divisors(group, members)]
                lr, decay = group["lr"], group["weight_decay"]
                numbers = {"keep": 1 - lr * decay, "lr": lr}
                self._advance(_update, columns, numbers, beta1=group["betas"][0], decay=decay != 0)

    def _entry_rule(self, group: dict[str, Any]) -> EntryRule:
        return _RULE

    def _divisors(self, group: dict[str, Any], members: list[Tensor]) -> list[Tensor]:
        """clip_threshold * max(h, 0) + eps, kept until h (its tensor, or what that holds) or the options change."""
        kept = self._kept("divisors")
        threshold, eps = group["clip_threshold"], group["eps"]
        found = []
        for p in members:
            hessian = self.state[p]["hessian"]
            source, made_from, divisor = kept.get(p, (None, None, None))
            now = (hessian._version, threshold, eps)
            if source is not hessian or made_from != now:
                memory = divisor if source is hessian else torch.empty_like(hessian)
                divisor = torch.clamp(hessian, min=0, out=memory)
                if threshold != 1:
                    divisor.mul_(threshold)
                divisor.add_(max(eps, torch.finfo(divisor.dtype).tiny))  # 0 by 0 is no step
                kept[p] = hessian, now, divisor
            found.append(divisor)
        return found


_RULE = EntryRule(
    (),
    lambda: 0,
    lambda n: (),
    lambda young: young.after(),
    moments=("exp_avg",),
)
"""No bias corrections: but an entry without curvature would take full steps until the next refresh, so it waits."""


@optimizer("sophiag")
class SophiaG(SophiaH):
    """SophiaH with the Gauss-Newton-Bartlett estimate: h = B * g_hat^2, B the batch size.

    g_hat: gradient of the mean cross-entropy with labels drawn from the net's own softmax, so the net's output must
    be (batch, classes) logits. They are taken from the net's last forward pass in the closure, before any masking
    done outside it. n_samples: draws of the labels. One more backward pass on refresh, no second derivatives.
    Needs the model. Liu et al. (2024), algorithm 2.
    """

    needs_model = True

    def _evaluate(self, closure: Closure) -> Pass:
        if not self.refresh_due:
            return self._differentiate(closure)
        outputs: list[Tensor] = []
        assert self.model is not None  # needs_model
        handle = self.model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            found = self._differentiate(closure, retain_graph=True)
        finally:
            handle.remove()
        if not outputs or outputs[-1].ndim != 2 + self.stacked:
            raise UserError("closure must call the model, and its output must be (batch, classes) logits, for sophiag")
        self._refresh(*self._split(found.params, self._gauss_newton_bartlett(found.params, outputs[-1])))
        return found

    def _gauss_newton_bartlett(self, params: list[Tensor], logits: Tensor) -> list[Tensor]:
        """logits: (batch, classes), of a stack (S, batch, classes)."""
        estimates, batch = [torch.zeros_like(p) for p in params], logits.shape[-2]
        probabilities = logits.detach().softmax(dim=-1)
        # a diverged net has no probabilities: any label will do, the gradient is NaN as it should be
        probabilities = torch.where(probabilities.isfinite(), probabilities, 1.0)
        for sample in range(self.n_samples):
            labels = self._drawn(probabilities)
            with torch.enable_grad():
                loss = cross_entropy(logits.flatten(0, -2), labels)
                if self.stacked:  # the sum of the members' means
                    loss = loss * len(logits)
            grads = torch.autograd.grad(
                loss, params, retain_graph=sample + 1 < self.n_samples, allow_unused=True, materialize_grads=True
            )
            torch._foreach_addcmul_(estimates, grads, grads, value=batch / self.n_samples)
        return estimates

    def _drawn(self, probabilities: Tensor) -> Tensor:
        """A label for every row."""
        if self.members is None:
            return torch.multinomial(probabilities, 1, generator=self.generator).squeeze(1)
        pairs = zip(probabilities, self.members.generators, strict=True)
        return torch.cat([torch.multinomial(rows, 1, generator=own).squeeze(1) for rows, own in pairs])


def _update(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg: list[Tensor],
    divisors: list[Tensor],
    ratio: list[Tensor],
    *,
    keep: Number,
    lr: Number,
    beta1: float,
    decay: bool,
) -> None:
    if decay:
        scale(params, keep)
    torch._foreach_lerp_(exp_avg, grads, 1 - beta1)
    for average, divisor, target in zip(exp_avg, divisors, ratio, strict=True):
        torch.div(average, divisor, out=target).clamp_(-1.0, 1.0)
    add_multiple(params, ratio, -lr)
