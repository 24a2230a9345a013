"""Activations against their formulas in NumPy; those with numbers per unit in every net."""

import copy

import numpy as np
import pytest
import torch

from lop.nets import NETS
from lop.nets.activations import ACTIVATIONS, PER_UNIT, expansion, make_activation
from lop.nets.init import initialise_
from lop.nets.stack import Stack
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator

Z = torch.linspace(-4, 4, 41, dtype=torch.float64).view(-1, 1)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


FORMULAS = {
    "fourier": lambda z: np.concatenate([np.sin(z), np.cos(z)], 1),
    "smooth_leaky": lambda z: 0.1 * z + 0.9 * z * sigmoid(5 * z / 3),
    "prelu": lambda z: np.maximum(z, 0) + 0.7 * np.minimum(z, 0),
    "adalin_relu": lambda z: np.maximum(z, 0) + 0.7 * np.minimum(z, 0),
    "adalin": lambda z: np.tanh(z) + 0.7 * z * np.cos(np.pi / 2 / np.cosh(z) ** 2),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_formula(name):
    activation = make_activation(name, 1).double()
    for p in activation.parameters():
        p.data.fill_(0.7)
    np.testing.assert_allclose(activation(Z).detach(), FORMULAS[name](Z.numpy()), rtol=1e-12, atol=1e-15)


def test_no_gradient_flows_through_the_gate():
    """df/dz = phi' + a g, without a z g'."""
    z = Z.clone().requires_grad_()
    activation = make_activation("adalin", 1).double()
    activation.weight.data.fill_(0.7)
    (found,) = torch.autograd.grad(activation(z).sum(), z)
    slope = 1 / np.cosh(Z.numpy()) ** 2
    np.testing.assert_allclose(found, slope + 0.7 * np.cos(np.pi / 2 * slope), rtol=1e-9, atol=1e-12)


SMALL = [
    ("mlp", (6,), {"hidden": [5, 4], "layer_norm": True}),
    ("convnet", (1, 10, 10), {"channels": [3], "kernel_sizes": [3], "hidden": [4]}),
    ("resnet18", (3, 8, 8), {"width": 3, "blocks": [1, 1]}),
]
ALL = sorted({*ACTIVATIONS, *PER_UNIT})
# a residual stream has one feature per channel
PAIRS = [(name, *net) for net in SMALL for name in ALL if net[0] != "resnet18" or expansion(name) == 1]


@pytest.mark.parametrize(("name", "net", "shape", "options"), PAIRS)
def test_every_net_learns_all_of_its_parameters(name, net, shape, options):
    """Features are as many as the layer says, every number per unit has a gradient, a stack gives what nets give."""
    nets = [NETS[net](shape, 3, activation=name, **options) for _ in range(2)]
    for i, one in enumerate(nets):
        initialise_(one, make_generator(i, "net"))
        one.eval()
    x = torch.randn(9, *shape, generator=make_generator(0, "x"))
    alone = [copy.deepcopy(one)(x) for one in nets]
    with torch.no_grad():
        found = Stack(nets)(torch.stack([x, x]))
    torch.testing.assert_close(found, torch.stack(alone).detach(), rtol=1e-4, atol=1e-5)
    seen = []
    for layer in nets[0].hidden_layers():
        layer.activation.register_forward_hook(lambda m, i, out, units=layer: seen.append((out.shape[1], units)))
    gradients = torch.autograd.grad(nets[0](x).square().sum(), list(nets[0].parameters()))
    assert all(features == layer.units * layer.expansion for features, layer in seen)
    assert all(g.abs().sum() > 0 for g in gradients)
    assert sum(hasattr(layer.activation, "start") for layer in nets[0].hidden_layers()) == (
        len(seen) if name in PER_UNIT else 0
    )


def test_a_net_without_units_along_dimension_1_refuses_them():
    with pytest.raises(UserError, match="activation must be one without parameters per unit"):
        NETS["vit"]((3, 8, 8), 3, activation="prelu")
