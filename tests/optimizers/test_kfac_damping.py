"""K-FAC's two ways of damping against (A kron G + damping I)^-1, which neither is exactly."""

import itertools

import numpy as np
import pytest
import torch
from optimizer_problems import fill
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from lop.optimizers import get_optimizer
from lop.utils.errors import UserError

DAMPING = 1e-3


def digits(side: int = 8):
    """64 digits as images, enlarged to side x side."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:64] / 16).view(-1, 1, 8, 8)
    return interpolate(x, size=side, mode="bilinear"), torch.tensor(labels[:64])


def conv_net():
    layers = [nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(200, 10))


def mlp(*, width: int = 100):
    sizes = [64, width, width, width]
    hidden = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def dense_inverse(factors, gradient):
    """(A kron G + damping I)^-1 vec(dW), through the factors' eigenvectors, which are the block's."""
    (a, of_a), (g, of_g) = (np.linalg.eigh(factors[name].numpy()) for name in ("A", "G"))
    return of_g @ ((of_g.T @ gradient @ of_a) / (np.outer(g, a) + DAMPING)) @ of_a.T


def test_the_reference_is_the_dense_inverse():
    random = np.random.default_rng(0)
    a, g = (np.cov(random.normal(size=(n, 2 * n))) for n in (5, 4))
    gradient = random.normal(size=(4, 5))
    expected = np.linalg.solve(np.kron(g, a) + DAMPING * np.eye(20), gradient.ravel())
    found = dense_inverse({"A": torch.tensor(a), "G": torch.tensor(g)}, gradient)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-8)


def compared(make, side: int, split: str) -> list[tuple[float, float]]:
    """Per layer (length, cosine) of the first update against that of the dense damped inverse, in float64."""
    net, (x, y) = make(), digits(side)
    for layer in net:
        if hasattr(layer, "weight"):
            fill(layer, scale=(3 * layer.weight[0].numel()) ** -0.5)
    net.double()
    gradients = torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters()))
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = get_optimizer("kfac", net, lr=1.0, damping=DAMPING, damping_split=split, max_grad_norm=None)
    optimizer.step(lambda: cross_entropy(net(x), y))
    moved = [b - p.detach() for b, p in zip(before, net.parameters(), strict=True)]

    def matrices(tensors):
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        return [torch.cat([w.flatten(1), b.unsqueeze(1)], 1).numpy() for w, b in pairs]

    found = []
    for weight, gradient, ours in zip(list(net.parameters())[::2], matrices(gradients), matrices(moved), strict=True):
        exact = dense_inverse(optimizer.state[weight]["factors"], gradient)
        lengths = np.linalg.norm(ours), np.linalg.norm(exact)
        found.append((float(lengths[0] / lengths[1]), float((ours * exact).sum() / (lengths[0] * lengths[1]))))
    return found


@pytest.mark.parametrize(("make", "side", "gain"), [(conv_net, 32, 20), (mlp, 8, 3)])
def test_the_pi_split_keeps_the_length_that_the_square_root_takes(make, side, gain):
    equal, split = compared(make, side, "sqrt"), compared(make, side, "pi")
    assert split[0][0] > gain * equal[0][0]
    for length, cosine in split:
        assert 0.3 < length <= 1.0
        assert cosine > 0.6


@pytest.mark.parametrize("split", ["sqrt", "pi"])
def test_a_dead_layer_moves_no_other_and_nothing_is_nan(split):
    """Its factors have no power: the quotient that pi is made from is 0 by 0, or infinite."""
    net, (x, y) = mlp(width=20).double(), digits()
    with torch.no_grad():
        net[1].bias.fill_(-100.0)  # the second layer sees zeros, the first gets no gradient
        net[3].bias.fill_(-100.0)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = get_optimizer("kfac", net, damping_split=split)
    for _ in range(3):
        optimizer.step(lambda: cross_entropy(net(x), y))
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before[:4], list(net.parameters())[:4], strict=True))
    assert not torch.equal(before[7], net[7].bias)


def test_an_unknown_split_is_refused():
    with pytest.raises(UserError, match="damping_split must be one of sqrt, pi, got 'both'"):
        get_optimizer("kfac", mlp(width=20), damping_split="both")


def test_a_unit_that_starts_anew_has_the_damping_of_its_factor():
    net, (x, y) = mlp(width=20).double(), digits()
    optimizer = get_optimizer("kfac", net, damping=DAMPING)
    optimizer.step(lambda: cross_entropy(net(x), y))
    state = optimizer.state[net[3].weight]
    powers = {name: factor.diagonal().mean() for name, factor in state["factors"].items()}
    optimizer.reset_entries(net[3].weight, (torch.arange(20) == 3).unsqueeze(1))
    pi = (powers["A"] / state["factors"]["G"].diagonal().mean()) ** 0.5
    expected = 1 / (powers["G"] + DAMPING**0.5 / pi)
    torch.testing.assert_close(state["inverses"]["G"][3, 3], expected)
