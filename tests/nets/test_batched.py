"""Layers of many nets at once: the values and derivatives of each net's own layers."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from lop.nets import MLP
from lop.nets.batched import BatchedLinear, is_layerwise
from lop.nets.init import initialise_
from lop.nets.stack import Stack
from lop.utils.seeding import make_generator

MEMBERS = 3


def mlps(kind=MLP, **options):
    nets = [kind((2, 3), 4, hidden=[5, 5], **options) for _ in range(MEMBERS)]
    for seed, one in enumerate(nets):
        initialise_(one, make_generator(seed, "net"))
        one.double()
        with torch.no_grad():
            for p in one.parameters():  # biases and norms, too
                p.add_(torch.randn(p.shape, generator=make_generator(seed, "noise"), dtype=torch.float64), alpha=0.1)
    return nets


def inputs(*shape):
    return torch.randn(MEMBERS, *shape, generator=make_generator(0, "inputs"), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_derivatives_of_the_product(bias):
    linears = [nn.Linear(4, 2, bias=bias).double() for _ in range(MEMBERS)]
    weight = torch.stack([layer.weight.detach() for layer in linears]).requires_grad_()
    offset = torch.stack([layer.bias.detach() for layer in linears]).requires_grad_() if bias else None

    layer = BatchedLinear(nn.Parameter(weight), nn.Parameter(offset) if bias else None)

    def product(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(("weight", "bias"), parameters, strict=False)), (x,))

    x = inputs(5, 4).requires_grad_()
    given = (x, weight, offset) if bias else (x, weight)
    expected = torch.stack([layer(rows) for layer, rows in zip(linears, x, strict=True)])
    torch.testing.assert_close(product(*given), expected)
    assert gradcheck(product, given)
    assert gradgradcheck(product, given)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "crelu", "smooth_leaky", "linear"])
def test_a_stack_of_layers_is_every_net_s_own(layer_norm, activation):
    nets = mlps(layer_norm=layer_norm, activation=activation)
    x = inputs(7, 2, 3)
    expected = torch.stack([one(rows) for one, rows in zip(nets, x, strict=True)])
    stack = Stack(nets)
    assert is_layerwise(nets[0])
    torch.testing.assert_close(stack(x), expected, rtol=1e-12, atol=1e-12)
    stack.recording = True
    stack(x)
    wide = 10 if activation == "crelu" else 5
    assert [tuple(rows.shape) for rows in stack.features] == [(MEMBERS, 7, wide)] * 2


def test_gradients_and_curvature_lie_in_memory_as_the_weights_do():
    stack = Stack(mlps())
    params = list(stack.net.parameters())
    grads = torch.autograd.grad(stack(inputs(7, 2, 3)).pow(2).sum(), params, create_graph=True)
    assert all(g.is_contiguous() for g in grads)
    curved = torch.autograd.grad(grads, params, [torch.ones_like(g) for g in grads])
    assert all(h.is_contiguous() for h in curved)


def test_a_net_with_a_forward_pass_of_its_own_is_vectorised():
    class Doubled(MLP):
        def forward(self, x):
            return 2 * self.head(self.body(x).roll(1, 0))

    nets = mlps(Doubled)
    x = inputs(7, 2, 3)
    expected = torch.stack([one(rows) for one, rows in zip(nets, x, strict=True)])
    assert not is_layerwise(nets[0])
    torch.testing.assert_close(Stack(nets)(x), expected, rtol=1e-12, atol=1e-12)


def test_a_layer_that_is_not_known_is_vectorised():
    nets = mlps()
    for one in nets:
        one.body.append(nn.Softplus())
    x = inputs(7, 2, 3)
    expected = torch.stack([one(rows) for one, rows in zip(nets, x, strict=True)])
    assert not is_layerwise(nets[0])
    torch.testing.assert_close(Stack(nets)(x), expected, rtol=1e-12, atol=1e-12)
