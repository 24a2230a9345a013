"""Inner products of per-example gradients, without the (examples x parameters) Jacobian.

For N examples with scalars f_n, K_nm = <grad f_n, grad f_m> over all trainable parameters. One forward pass
records each layer's input, one backward pass of sum(f_n) gives the gradient at each layer's output (in
evaluation mode examples do not mix), and each layer adds its share of K from these two.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop.metrics.numerics import precise
from lop.metrics.reasons import Reason, UndefinedMetricError
from lop.nets.layer_io import Call, WeightLayer, input_rows, multiplies_rows, output_rows, recorded_calls, unshared

BLOCK = 2**22  # entries of per-example gradients held at once
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm
Pairs = list[tuple[Tensor, Tensor]]  # (input, gradient at the output) of each call of a layer in one forward pass
Scalars = Callable[..., list[Tensor]]  # (outputs, *targets) -> scalars of the examples, each (N,)


def gradient_gram(net: nn.Module, batch: tuple[Tensor, ...], scalars: Scalars) -> Tensor:
    """K (N, N) in float64, the sum over the scalars of the Gram matrices of their per-example gradients.

    net: in evaluation mode. batch: the inputs, then whatever `scalars(outputs, *rest)` needs, all with N rows.
    Linear, Conv2d, BatchNorm, LayerNorm and GroupNorm are done in closed form, all other parameters with
    `torch.func`. Raises UndefinedMetricError where an example's output depends on the other examples.
    """
    with recorded_calls(_with_rule(net)) as recorded, torch.enable_grad():
        outputs = net(batch[0])
    values = scalars(outputs, *batch[1:])
    by_layer: dict[nn.Module, list[Call]] = {}
    for call in recorded:
        by_layer.setdefault(call.layer, []).append(call)
    edges = [call.output for calls in by_layer.values() for call in calls]
    gram = torch.zeros(len(outputs), len(outputs), device=outputs.device, dtype=precise(outputs[:0]).dtype)
    for i, value in enumerate(values if edges else []):
        keep = i + 1 < len(values)
        gradients = iter(torch.autograd.grad(value.sum(), edges, retain_graph=keep, allow_unused=True))
        for module, calls in by_layer.items():
            pairs = [(call.inputs, g) for call, g in zip(calls, gradients, strict=False) if g is not None]
            if pairs:
                gram += _RULES[type(module)](module, pairs)
    rest = _other_parameters(net, by_layer)
    if rest:
        gram += _generic_gram(net, rest, batch, scalars, len(values))
    return gram


def _with_rule(net: nn.Module) -> list[nn.Module]:
    """The layers whose share is computed in closed form."""
    return [m for m in unshared(net) if _has_rule(m)]


def _has_rule(module: nn.Module) -> bool:
    known = multiplies_rows(module) if type(module) is nn.Conv2d else type(module) in _RULES
    return known and any(p.requires_grad for p in module.parameters(recurse=False))


def _other_parameters(net: nn.Module, calls: dict[nn.Module, list[Call]]) -> dict[str, Tensor]:
    """The trainable parameters of no recorded layer, by name."""
    done = {id(p) for module in calls for p in module.parameters(recurse=False)}
    return {n: p for n, p in net.named_parameters() if p.requires_grad and id(p) not in done}


def _trains(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _weight_gram(module: WeightLayer, calls: Pairs) -> Tensor:
    x = torch.cat([input_rows(module, x) for x, _ in calls], dim=1)
    g = torch.cat([output_rows(module, g) for _, g in calls], dim=1)
    return _product_gram(x, g, _trains(module.weight), _trains(module.bias))


def _product_gram(x: Tensor, g: Tensor, weight: bool, bias: bool) -> Tensor:
    """The Gram matrix of the gradients sum_l g_l x_l^T (weight) and sum_l g_l (bias).

    x: (N, L, inputs), g: (N, L, outputs); L: positions at which the weight is used. Inner products are in
    float64; of the two orders of multiplication the cheaper one is taken.
    """
    (n, length, inputs), outputs = x.shape, g.shape[2]
    grams = []
    if weight:
        pairs = (n * length) ** 2 * (inputs + outputs)
        gradients = n * length * inputs * outputs + n**2 * inputs * outputs
        grams.append(_gram_by_pairs(x, g) if pairs <= gradients else _gram_by_gradients(x, g))
    if bias:
        total = precise(g).sum(1)
        grams.append(total @ total.T)
    return _sum(grams)


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    """Of one tensor or more, in their order."""
    return reduce(torch.add, tensors)


def _gram_by_pairs(x: Tensor, g: Tensor) -> Tensor:
    n, length = x.shape[:2]
    x, g = precise(x).flatten(0, 1), precise(g).flatten(0, 1)
    return ((x @ x.T) * (g @ g.T)).view(n, length, n, length).sum((1, 3))


def _gram_by_gradients(x: Tensor, g: Tensor) -> Tensor:
    rows = max(1, BLOCK // (x.shape[0] * x.shape[2]))
    blocks = (precise(part.transpose(1, 2) @ x).flatten(1) for part in g.split(rows, dim=2))
    return _sum(block @ block.T for block in blocks)


def _norm_gram(module: Norm, calls: Pairs) -> Tensor:
    grams = []
    for parameter, of_normalised in ((module.weight, True), (module.bias, False)):
        if _trains(parameter):
            gradients = _sum(
                _elementwise_gradient(module, g * _normalised(module, x) if of_normalised else g) for x, g in calls
            )
            grams.append(gradients @ gradients.T)
    return _sum(grams)


def _elementwise_gradient(module: Norm, product: Tensor) -> Tensor:
    """Sum over the positions at which each entry of a norm's weight is used. (N, ...) -> (N, entries)."""
    n = len(product)
    if isinstance(module, nn.LayerNorm):
        return precise(product).reshape(n, -1, module.weight.numel()).sum(1)
    return precise(product).reshape(n, module.weight.numel(), -1).sum(2)


def _normalised(module: Norm, x: Tensor) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(x, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, eps=module.eps)
    if module.running_mean is None:
        raise UndefinedMetricError(Reason.MIXED_EXAMPLES)
    return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)


_RULES: dict[type, Callable[[Any, Pairs], Tensor]] = {
    nn.Linear: _weight_gram,
    nn.Conv2d: _weight_gram,
    nn.BatchNorm1d: _norm_gram,
    nn.BatchNorm2d: _norm_gram,
    nn.LayerNorm: _norm_gram,
    nn.GroupNorm: _norm_gram,
}


def _generic_gram(net: nn.Module, parameters: dict[str, Tensor], batch, scalars: Scalars, count: int) -> Tensor:
    """The share of `parameters` in K from their per-example gradients, for layers without a rule."""
    rest = {name: p.detach() for name, p in net.named_parameters() if name not in parameters}
    grams = []
    for i in range(count):

        def scalar(chosen, *example, index=i):
            rows = [part.unsqueeze(0) for part in example]
            outputs = torch.func.functional_call(net, {**rest, **chosen}, (rows[0],))
            return scalars(outputs, *rows[1:])[index].squeeze(0)

        chosen = {name: p.detach() for name, p in parameters.items()}
        gradients = torch.func.vmap(torch.func.grad(scalar), in_dims=(None, *[0] * len(batch)))(chosen, *batch)
        for gradient in gradients.values():
            rows = precise(gradient).reshape(len(gradient), -1)
            grams.append(rows @ rows.T)
    return _sum(grams)
