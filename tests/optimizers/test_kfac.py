"""K-FAC against the block inverse built as one matrix, for several batch sizes, layers and kinds of loss."""

import copy

import numpy as np
import pytest
import torch
from optimizer_problems import fill
from torch import nn
from torch.nn.functional import cross_entropy, unfold

from lop.optimizers import get_optimizer
from lop.utils.seeding import make_generator

DAMPING, LR = 1e-2, 0.3


def net_and_data(batch: int, hidden: int = 7):
    net = fill(nn.Sequential(nn.Linear(4, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 3, bias=False)).double())
    generator = make_generator(2, "test data")
    x = torch.randn(batch, 4, generator=generator, dtype=torch.float64)
    return net, x, torch.randint(0, 3, (batch,), generator=generator)


def per_sample_passes(net, x, y):
    """Per layer: inputs (B, features + bias) and output gradients (B, units) of each sample's own loss."""
    hidden = net[0](x).detach().requires_grad_()
    active = hidden.relu().detach()
    logits = (hidden.relu() @ net[2].weight.detach().T).detach().requires_grad_()
    (s2,) = torch.autograd.grad(cross_entropy(logits, y, reduction="sum"), logits)
    s1 = (s2 @ net[2].weight.detach()) * (hidden > 0)
    return [(torch.cat([x, torch.ones(len(x), 1)], 1), s1.detach()), (active, s2)]


def exact_update(factor_a, factor_g, gradient, split="pi"):
    """(A' kron G')^-1 vec(dW), the block inverted as one matrix."""
    pi = (np.trace(factor_a) / len(factor_a) / (np.trace(factor_g) / len(factor_g))) ** 0.5 if split == "pi" else 1.0
    a = factor_a.numpy() + pi * DAMPING**0.5 * np.eye(len(factor_a))
    g = factor_g.numpy() + DAMPING**0.5 / pi * np.eye(len(factor_g))
    return solved(np.kron(a, g), gradient)


def solved(block, gradient):
    """block^-1 vec(dW) as a matrix again."""
    vec = gradient.numpy().T.reshape(-1)  # columns stacked
    return torch.tensor(np.linalg.solve(block, vec).reshape(gradient.shape[1], gradient.shape[0]).T)


def penalty(net):
    return 0.05 * sum((p**2).sum() for p in net.parameters())


@pytest.mark.parametrize("split", ["pi", "sqrt"])
@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("batch", [1, 8, 64])
def test_natural_gradient_is_the_exact_block_inverse(batch, penalised, split):
    """Over 4 steps with running averages; a penalty forces the path that builds the gradient as a matrix."""
    net, x, y = net_and_data(batch)
    expected = copy.deepcopy(net)
    options = {"lr": LR, "damping": DAMPING, "damping_split": split, "T_inv": 2, "T_cov": 1, "alpha": 0.6}
    optimizer = get_optimizer("kfac", net, max_grad_norm=None, **options)
    factors = [(0.0, 0.0), (0.0, 0.0)]
    for step in range(1, 5):
        passes = per_sample_passes(expected, x, y)
        decay = min(0.6, 1 - 1 / step)
        factors = [
            (decay * a + (1 - decay) * i.T @ i / batch, decay * g + (1 - decay) * s.T @ s / batch)
            for (a, g), (i, s) in zip(factors, passes, strict=True)
        ]
        if step % 2 == 1:
            used = factors
        with torch.no_grad():
            for layer, (a, g), (i, s) in zip((expected[0], expected[2]), used, passes, strict=True):
                gradient = s.T @ i / batch
                if penalised:
                    columns = [layer.weight] + ([layer.bias.unsqueeze(1)] if layer.bias is not None else [])
                    gradient = gradient + 0.1 * torch.cat(columns, 1)
                update = exact_update(a, g, gradient, split)
                layer.weight -= LR * update[:, : layer.in_features]
                if layer.bias is not None:
                    layer.bias -= LR * update[:, -1]
        optimizer.step(lambda: cross_entropy(net(x), y) + (penalty(net) if penalised else 0))
        for p, e in zip(net.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p, e, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_few_rows_or_the_whole_gradient_make_the_same_step(bias, layout):
    """A convolution of more units and features than samples times positions is preconditioned row by row."""
    generator = make_generator(2, "test data")
    layers = [nn.Conv2d(8, 16, 3, stride=2, bias=bias), nn.Tanh(), nn.Conv2d(16, 12, 2, bias=bias), nn.Flatten()]
    rowwise = fill(nn.Sequential(*layers, nn.Linear(12, 3)).double()).to(memory_format=layout)
    whole = copy.deepcopy(rowwise)
    x = torch.randn(2, 8, 5, 5, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 2])
    for net, more in ((rowwise, 0.0), (whole, 1.0)):
        optimizer = get_optimizer("kfac", net, lr=LR, T_inv=2, weight_decay=0.1)
        for _ in range(3):
            optimizer.step(lambda net=net, more=more: cross_entropy(net(x), y) + (0 * penalty(net) if more else 0))
    for one, other in zip(rowwise.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_factors_take_in_batches_on_their_schedule():
    net, x, y = net_and_data(8)
    optimizer = get_optimizer("kfac", net, T_cov=3, T_inv=4)
    weight, last = net[0].weight, {}
    for step in range(1, 10):
        optimizer.step(lambda: cross_entropy(net(x), y))
        for kind, interval in (("factors", 3), ("inverses", 4)):
            now = optimizer.state[weight][kind]["G"].clone()
            assert (kind not in last or not torch.equal(now, last[kind])) == ((step - 1) % interval == 0)
            last[kind] = now


def test_step_does_not_depend_on_how_often_the_batch_repeats():
    results = []
    for repeats in (1, 8):
        net, x, y = net_and_data(8)
        x, y = x.repeat(repeats, 1), y.repeat(repeats)
        optimizer = get_optimizer("kfac", net, lr=LR, max_grad_norm=None)
        for _ in range(3):
            optimizer.step(lambda net=net, x=x, y=y: cross_entropy(net(x), y))
        results.append([p.detach() for p in net.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_convolution_factors_follow_grosse_and_martens():
    generator = make_generator(4, "test")
    conv = fill(nn.Conv2d(2, 3, 3, stride=2, padding=1).double())
    net = nn.Sequential(conv, nn.Tanh())
    x = torch.randn(5, 2, 7, 7, generator=generator, dtype=torch.float64)
    before = [p.detach().clone() for p in conv.parameters()]
    out = conv(x).detach().requires_grad_()
    (s,) = torch.autograd.grad(out.tanh().square().sum(), out)  # of every sample's own loss
    patches = unfold(x, 3, padding=1, stride=2)  # (B, features, T)
    patches = torch.cat([patches, torch.ones(5, 1, patches.shape[2])], 1)
    s = s.flatten(2)
    positions = s.shape[2]
    a = torch.einsum("bft,bgt->fg", patches, patches) / 5
    g = torch.einsum("bot,bpt->op", s, s) / (5 * positions)
    gradient = torch.einsum("bot,bft->of", s, patches) / 5
    update = exact_update(a, g, gradient)
    optimizer = get_optimizer("kfac", net, lr=LR, damping=DAMPING, max_grad_norm=None)
    optimizer.step(lambda: net(x).square().sum() / 5)
    torch.testing.assert_close(before[0] - conv.weight, LR * update[:, :-1].view_as(conv.weight))
    torch.testing.assert_close(before[1] - conv.bias, LR * update[:, -1])


def test_update_is_clipped_as_a_whole():
    net, x, y = net_and_data(16)
    before = [p.detach().clone() for p in net.parameters()]
    get_optimizer("kfac", net, lr=1.0, max_grad_norm=0.01).step(lambda: cross_entropy(net(x), y))
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, net.parameters(), strict=True)])
    torch.testing.assert_close(moved.norm(), torch.tensor(0.01, dtype=torch.float64), rtol=1e-3, atol=0)


def test_other_parameters_get_plain_sgd():
    net = fill(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).double())
    _, x, y = net_and_data(8)
    norm, expected = net[1], []
    grads = torch.autograd.grad(cross_entropy(net(x), y), list(norm.parameters()))
    expected = [p.detach() - 0.1 * g for p, g in zip(norm.parameters(), grads, strict=True)]
    get_optimizer("kfac", net, lr=0.1, max_grad_norm=None).step(lambda: cross_entropy(net(x), y))
    for p, e in zip(norm.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), e)


def test_a_layer_that_only_the_penalty_reaches_gets_plain_sgd():
    net, x, _ = net_and_data(8)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = get_optimizer("kfac", net, lr=0.1, max_grad_norm=None)

    def closure():
        net(x)
        return penalty(net)

    optimizer.step(closure)
    for p, b in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), 0.99 * b)


def test_evaluation_passes_are_never_seen():
    net, x, y = net_and_data(8)
    optimizer = get_optimizer("kfac", net)
    optimizer.step(lambda: cross_entropy(net(x), y))
    factors = copy.deepcopy(optimizer.state[net[0].weight]["factors"])
    net(100 * x)
    assert not any(module._forward_hooks for module in net.modules())
    for name, factor in optimizer.state[net[0].weight]["factors"].items():
        assert torch.equal(factor, factors[name])


def test_reset_unit_restarts_in_both_layers():
    net, x, y = net_and_data(32)
    optimizer = get_optimizer("kfac", net, lr=0.01)
    for _ in range(3):
        optimizer.step(lambda: cross_entropy(net(x), y))
    unit = torch.arange(7) == 2
    optimizer.reset_entries(net[0].weight, unit.unsqueeze(1))
    optimizer.reset_entries(net[2].weight, unit.unsqueeze(0))
    for weight, name in ((net[0].weight, "G"), (net[2].weight, "A")):
        for kind in ("factors", "inverses"):
            matrix = optimizer.state[weight][kind][name]
            assert matrix[2, 2] > 0
            assert not matrix[2, [0, 1, 3, 4, 5, 6]].any()
            assert not matrix[[0, 1, 3, 4, 5, 6], 2].any()
            assert matrix[3, 3] > 0
    optimizer.step(lambda: cross_entropy(net(x), y))
    optimizer.fade(0.5)
    assert not optimizer.state[net[0].weight]


def test_damping_adapts_to_the_quadratic_model():
    """Where steps are tiny the model is right, and damping falls by (19/20)^5 every 5 steps."""
    net, x, y = net_and_data(32)
    optimizer = get_optimizer("kfac", net, lr=1e-5, damping=0.1, adapt_damping=True)
    for _ in range(10):
        optimizer.step(lambda: cross_entropy(net(x), y))
    torch.testing.assert_close(optimizer.state[net[0].weight]["damping"].item(), 0.1 * 0.95**10)


@pytest.mark.parametrize("penalised", [False, True])
def test_a_forward_pass_that_the_loss_does_not_use_changes_nothing(penalised):
    """Neither for the batch size nor for what counts as a layer whose gradient is its own calls' alone."""
    used_only, x, y = net_and_data(8)
    beside = copy.deepcopy(used_only)
    for net, more in ((used_only, False), (beside, True)):
        optimizer = get_optimizer("kfac", net, lr=LR, T_inv=1, T_cov=1)
        for _ in range(3):

            def closure(net=net, more=more):
                if more:
                    net(torch.cat([x] * 4))
                return cross_entropy(net(x), y) + (penalty(net) if penalised else 0)

            optimizer.step(closure)
    for one, other in zip(used_only.parameters(), beside.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_frozen_bias_stays_and_its_weight_gets_plain_sgd():
    net, x, y = net_and_data(8)
    net[0].bias.requires_grad_(False)
    before = copy.deepcopy(net)
    (gradient,) = torch.autograd.grad(cross_entropy(before(x), y), [before[0].weight])
    get_optimizer("kfac", net, lr=LR, max_grad_norm=None).step(lambda: cross_entropy(net(x), y))
    assert torch.equal(net[0].bias, before[0].bias)
    torch.testing.assert_close(net[0].weight, before[0].weight - LR * gradient)


def test_damping_adapts_in_bfloat16():
    net, x, y = net_and_data(8)
    net.bfloat16()
    optimizer = get_optimizer("kfac", net, lr=LR, adapt_damping=True)
    for _ in range(6):
        assert optimizer.step(lambda: cross_entropy(net(x.bfloat16()), y)).isfinite()
