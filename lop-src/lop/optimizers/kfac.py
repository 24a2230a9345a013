"""K-FAC: natural gradient with a Kronecker-factored curvature per layer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from lop.nets.gradients import is_watched
from lop.nets.layer_io import Call, WeightLayer, recorded_calls
from lop.optimizers.base import Closure, ClosureOptimizer
from lop.optimizers.evaluation import Evaluation
from lop.optimizers.kfac_factors import (
    DampingSplit,
    Direction,
    LayerPass,
    forget_rows,
    invert_factors,
    natural_gradient,
    new_state,
    thin,
    update_factors,
)
from lop.optimizers.kfac_layers import input_matrix, output_matrix, supported_layers, weight_uses
from lop.optimizers.options import check_values
from lop.optimizers.registry import optimizer
from lop.utils.ranges import require_choice
from lop.utils.state import Factor, Fade, State, Value

ADAPT_INTERVAL = 5
ADAPT_FACTOR = 0.95**ADAPT_INTERVAL  # Martens & Grosse (2015), section 6.5: (19/20)^interval


@dataclass(frozen=True)
class LayerwisePass(Evaluation):
    """The layers that the loss reached, and the parameters outside of layers that it reached, with their gradients."""

    layers: list[LayerPass]
    rest: list[tuple[Tensor, Tensor]]


@optimizer("kfac")
class KFAC(ClosureOptimizer[LayerwisePass]):
    """Every Linear and Conv2d: p -= lr * (G + d/pi I)^-1 dW (A + d pi I)^-1, d = sqrt(damping); the rest: SGD.

    damping_split: pi: pi^2 = (tr A / dim A) / (tr G / dim G), the factored Tikhonov damping of the paper's section 6.3;
    sqrt: pi = 1, which nearly cancels the update where the factors differ much in size.

    The rest are other layers, and those with a frozen weight or bias.

    The loss must be the MEAN over the batch. With x a sample's layer input (a 1 appended for the bias) and s the
    gradient of that sample's own loss with respect to the layer's output (batch size times the gradient of the mean
    loss): A = E[x x^T], G = E[s s^T], dW the gradient of the mean loss. So factors and step do not depend on the
    batch size. A layer applied at T positions (convolution) has A = E[sum_t x_t x_t^T] and
    G = E[sum_t s_t s_t^T] / T (Grosse & Martens, 2016). s comes from the loss itself (empirical Fisher).

    The factors take in a batch on steps 1, T_cov + 1, ...: a running average with decay min(alpha, 1 - 1/n) for the
    n-th batch. They are inverted on steps 1, T_inv + 1, ... (Cholesky). With T_cov 1, taking in every batch, the
    factors cost as much as the rest of the step. max_grad_norm: largest norm of the whole update, after
    preconditioning and before lr; None: no limit. adapt_damping: Levenberg-Marquardt, every 5 steps by one more
    forward pass. Weight decay is decoupled. Factors are kept in float32 at least. Needs the model.
    Martens & Grosse (2015), "Optimizing neural networks with Kronecker-factored approximate curvature".
    """

    needs_model = True
    param_state: ClassVar[State] = {  # of a layer's weight; the factors of changed weights are those of another net
        "step": Value(),
        "batches": Value(),
        "damping": Value(),
        "factors": Factor(Fade.RESTARTS),
        "inverses": Factor(Fade.RESTARTS),
    }

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.01,
        damping: float = 1e-3,
        damping_split: DampingSplit = "pi",
        T_inv: int = 100,  # noqa: N803 (the field's names)
        T_cov: int = 10,  # noqa: N803
        alpha: float = 0.95,
        weight_decay: float = 0.0,
        adapt_damping: bool = False,
        max_grad_norm: float | None = 1.0,
        **shared: Any,
    ):
        check_values({"damping": damping, "T_inv": T_inv, "T_cov": T_cov, "alpha": alpha})
        require_choice(get_args(DampingSplit), damping_split=damping_split)
        self.damping = damping
        self.damping_split = damping_split
        self.inverse_interval = T_inv
        self.factor_interval = T_cov
        self.alpha = alpha
        self.adapt_damping = adapt_damping
        defaults = {"lr": lr, "weight_decay": weight_decay}
        super().__init__(model_or_params, defaults, max_grad_norm=max_grad_norm, **shared)

        self.single_pass = not adapt_damping
        trainable = [p for group in self.param_groups for p in group["params"]]
        assert self.model is not None  # needs_model
        self.layers = supported_layers(self.model, trainable)

    def _step(self, closure: Closure) -> Tensor:
        found = self._evaluate(closure)
        predicted = self._descend(found)
        if self.adapt_damping and (self.steps + 1) % ADAPT_INTERVAL == 0:
            with self._frozen_statistics():
                change = closure() - found.loss
            self._adapt(change / predicted)
        return found.loss

    def _evaluate(self, closure: Closure) -> LayerwisePass:
        trainable = self._trainable()
        layers = [layer for layer in self.layers if _is_trained(layer)]
        with recorded_calls(layers) as calls:
            loss = self._forward(closure, trainable)
        uses, nodes = weight_uses(loss)
        calls = [call for call in calls if call.output.node in nodes]  # the loss may use less than the closure ran
        calls_of: dict[WeightLayer, list[Call]] = {}
        for call in calls:
            calls_of.setdefault(call.layer, []).append(call)
        implied = {layer for layer, made in calls_of.items() if _is_implied(layer, made, uses)}
        skipped = {id(p) for layer in implied for p in (layer.weight, layer.bias)}
        explicit = [p for p in trainable if id(p) not in skipped]
        due = self.steps % self.factor_interval == 0 or any(not self.state.get(layer.weight) for layer in calls_of)
        wanted = [call for call in calls if due or call.layer in implied]
        found = self._gradients(loss, [*explicit, *(call.output for call in wanted)])
        grad_of = dict(zip(explicit, found, strict=False))
        output_grads = dict(zip(map(id, wanted), found[len(explicit) :], strict=True))

        passes = []
        for layer, made in calls_of.items():
            reached = [(call, grad) for call in made if (grad := output_grads.get(id(call))) is not None]
            explicitly = layer not in implied
            if grad_of[layer.weight] is None if explicitly else not reached:
                continue
            if not reached and not self.state.get(layer.weight):
                continue  # reached by a penalty alone, so far: no factors, plain SGD
            gradient = _pop_matrix(grad_of, layer) if explicitly else None
            inputs = outputs = None
            if reached:
                inputs = torch.cat([input_matrix(layer, call.inputs) for call, _ in reached])
                outputs = torch.cat([output_matrix(layer, grad) for _, grad in reached])
            passes.append(LayerPass(layer, len(made[0].inputs), inputs, outputs, gradient, due and bool(reached)))
        rest = [(p, g) for p, g in grad_of.items() if g is not None]
        return LayerwisePass(loss.detach(), passes, rest)

    def _finish(self, found: LayerwisePass) -> None:
        self._descend(found)

    def _descend(self, found: LayerwisePass) -> Tensor | float:
        """Updates factors and parameters; returns the change of the loss that the quadratic model predicts."""
        directions = []
        for done in found.layers:
            state = self.state[done.layer.weight]
            if not state:
                state.update(new_state(done, self.damping))
            if done.counts:
                update_factors(state, done, self.alpha)
            if state["step"] % self.inverse_interval == 0:
                invert_factors(state, self.damping_split)
            state["step"] += 1
            directions.append(natural_gradient(state, done))
        scale = self._clip_scale(directions, [g for _, g in found.rest])
        predicted: Tensor | float = 0.0
        for done, direction in zip(found.layers, directions, strict=True):
            if self.adapt_damping:
                length = self._group_of(done.layer.weight)["lr"] * scale
                predicted = predicted - length * (1 - length / 2) * direction.inner(done)
            self._move(done.layer, direction.scaled(scale))
        for p, g in found.rest:
            group = self._group_of(p)
            p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(g * (group["lr"] * scale))
        return predicted

    def _clip_scale(self, directions: list[Direction], grads: list[Tensor]) -> Tensor:
        squares = [direction.norm_sq() for direction in directions] + [torch.sum(g * g) for g in grads]
        norm = torch.stack([s.to(squares[0].dtype) for s in squares]).sum().sqrt()
        if self.max_grad_norm is None:
            return torch.ones_like(norm)
        return (self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)

    def _move(self, layer: WeightLayer, direction: Direction) -> None:
        features = layer.weight[0].numel()
        for p, columns in ((layer.weight, slice(0, features)), (layer.bias, features)):
            if p is not None:
                group = self._group_of(p)
                direction.add_to(p, columns, 1 - group["lr"] * group["weight_decay"], -group["lr"])

    def _adapt(self, ratio: Tensor) -> None:
        """Less damping where the quadratic model predicts the change of the loss well, more where it does not."""
        for state in self.state.values():
            damping = state["damping"]
            less, more = damping * ADAPT_FACTOR, damping / ADAPT_FACTOR
            damping.copy_(torch.where(ratio > 0.75, less, torch.where(ratio < 0.25, more, damping)))

    def _renew_factors(self, param: Tensor, mask: Tensor) -> None:
        """A unit all of whose incoming weights are reset restarts in G, one all of whose outgoing weights are in A.

        There it becomes uncorrelated with the others and has their mean power: zeros would make its first steps
        1/sqrt(damping) times too large. The cached inverses are changed alike. There is no per-entry state.
        """
        state = self.state[param]
        forget_rows(state, "G", mask.flatten(1).all(1), self.damping_split)
        columns = mask.all(0).flatten()
        columns = torch.nn.functional.pad(columns, (0, len(state["factors"]["A"]) - len(columns)))
        forget_rows(state, "A", columns, self.damping_split)


def _is_trained(layer: WeightLayer) -> bool:
    return layer.weight.requires_grad and (layer.bias is None or layer.bias.requires_grad)


def _is_implied(layer: WeightLayer, calls: list[Call], uses: dict[int, int]) -> bool:
    """Whether the layer's gradient is output gradients x inputs and nothing else, cheaper to use in that form, and
    nobody wants to see it as such."""
    parameters = [p for p in (layer.weight, layer.bias) if p is not None]
    own = all(uses.get(id(p)) == len(calls) and not is_watched(p) for p in parameters)
    return own and layer.weight.is_contiguous() and thin(layer, sum(call.rows for call in calls))


def _pop_matrix(grad_of: dict[Tensor, Any], layer: WeightLayer) -> Tensor:
    """The gradient of a layer's weight as a matrix, the bias as its last column."""
    gradient = grad_of.pop(layer.weight).flatten(1)
    if layer.bias is None:
        return gradient
    return torch.cat([gradient, grad_of.pop(layer.bias).unsqueeze(1)], dim=1)
