"""The kernel against the dense Jacobian, for every kind of layer."""

import math

import pytest
import torch
from torch import nn

from lop.metrics.gram import gradient_gram
from lop.metrics.ntk import eigenvalues, ntk
from lop.metrics.numerics import capped_condition, numerical_rank
from lop.metrics.ranks import effective_rank
from lop.metrics.reasons import Reason, UndefinedMetricError
from lop.nets.actor_critic import ActorCritic
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18


def dense_kernels(net, x, active=None):
    """(pseudo, full) from the N x outputs x P Jacobian."""
    parameters = {n: p.detach() for n, p in net.named_parameters()}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(net, p, (x,)))(parameters)
    rows = torch.cat([j.reshape(*j.shape[:2], -1) for j in jacobian.values()], dim=2)
    if active is not None:
        rows = rows[:, active]
    total = rows.sum(1)
    return total @ total.T, torch.einsum("nop,mop->nm", rows, rows)


class Odd(nn.Module):
    """Layers without a rule: a learned slope, grouped and same-padded convolutions, a bare parameter, tied weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, groups=3)
        self.same = nn.Conv2d(6, 4, 3, padding="same")
        self.slope = nn.PReLU(4)
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.encode, self.decode = nn.Linear(4, 7, bias=False), nn.Linear(7, 4, bias=False)
        self.decode.weight = nn.Parameter(torch.randn(4, 7))
        self.tied = nn.Linear(4, 7)
        self.tied.weight = self.encode.weight
        self.head = nn.Linear(7, 5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        h = self.slope(self.same(self.conv(x))).mean((2, 3)) * self.scale
        return self.head(torch.tanh(self.tied(self.decode(torch.tanh(self.encode(h))))))


class Tokens(nn.Module):
    """A Linear used at several positions and twice, between norms over several dimensions."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.norm, self.plane = nn.LayerNorm(8), nn.LayerNorm((8, 8))
        self.group = nn.GroupNorm(1, 3)
        self.batch = nn.BatchNorm1d(3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = self.linear(torch.tanh(self.plane(self.group(self.norm(self.linear(x))))))
        return self.head(self.batch(h.mean(2)).mean(1))


def convolutions():
    layers = (
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 40, (2, 3), dilation=(1, 2), padding=2, bias=False),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.GroupNorm(5, 40),
        nn.Conv2d(40, 30, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(30, 5),
    )
    return nn.Sequential(*layers)


NETS = {
    "mlp": lambda: MLP((3, 8, 8), 5, hidden=[7, 6], activation="tanh"),
    "mlp with layer norm, crelu": lambda: MLP((3, 8, 8), 5, hidden=[7, 6], activation="crelu", layer_norm=True),
    "no biases": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6, bias=False), nn.ReLU(), nn.Linear(6, 5, False)),
    "resnet": lambda: ResNet18((3, 8, 8), 5, width=4, blocks=[1, 1]),
    "policy and value": lambda: ActorCritic((3, 8, 8), 4, hidden=[6, 6]),
    "convolutions": convolutions,
    "tokens": Tokens,
    "layers without a rule": Odd,
}


@pytest.fixture(params=NETS, ids=list(NETS))
def net(request, drawn):
    if request.param in ("mlp", "resnet", "policy and value", "mlp with layer norm, crelu"):
        return drawn(NETS[request.param]())
    generator = torch.Generator().manual_seed(3)
    net = NETS[request.param]().double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
        for name, buffer in net.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return net


def test_kernel_equals_the_dense_one(net, generator):
    x = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)
    pseudo, full = dense_kernels(net, x)
    torch.testing.assert_close(ntk(net, x, "pseudo"), pseudo, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(ntk(net, x, "full"), full, rtol=1e-9, atol=1e-11)


def test_only_active_outputs_count(drawn, generator):
    net = drawn(NETS["mlp"]())
    x = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)
    active = torch.tensor([4, 1])
    pseudo, full = dense_kernels(net, x, active)
    torch.testing.assert_close(ntk(net, x, "pseudo", active), pseudo)
    torch.testing.assert_close(ntk(net, x, "full", active), full)


def test_float32_nets_keep_small_eigenvalues(drawn, generator):
    """Inner products in float64: eigenvalues six decades below the largest agree with the float64 net's."""
    net = drawn(MLP((20,), 5, hidden=[50, 50]))
    x = torch.randn(8, 20, generator=generator, dtype=torch.float64)
    x[1] = x[0] + 1e-3 * x[1]
    exact = torch.linalg.eigvalsh(dense_kernels(net, x)[0]).flip(0)
    assert exact[-1] < 1e-6 * exact[0]
    torch.testing.assert_close(eigenvalues(ntk(net.float(), x.float())), exact, rtol=2e-3, atol=0)


def test_frozen_parameters_do_not_count(drawn, generator):
    net = drawn(NETS["mlp"]())
    x = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)
    net.body[1].weight.requires_grad_(False)
    net.head.bias.requires_grad_(False)
    net.head.weight.requires_grad_(False)
    named = {n: p.detach() for n, p in net.named_parameters()}
    train = {n: p for n, p in named.items() if n in ("body.1.bias", "body.3.weight", "body.3.bias")}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(net, {**named, **p}, (x,)).sum(1))(train)
    rows = torch.cat([j.flatten(1) for j in jacobian.values()], dim=1)
    torch.testing.assert_close(ntk(net, x), rows @ rows.T)


def test_leaves_no_hook_and_no_gradient(drawn, generator):
    net = drawn(NETS["resnet"]())
    ntk(net, torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64))
    assert all(not m._forward_hooks for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_batch_norm_without_running_statistics_is_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2)).eval()
    with pytest.raises(UndefinedMetricError, match="mixes the examples") as error:
        ntk(net, torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert error.value.reason is Reason.MIXED_EXAMPLES


def test_gram_of_several_scalars_with_targets(generator):
    net = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    gram = gradient_gram(net, (x, y), lambda out, target: [(out - target).square().sum(1)])
    residual = (2 * (net(x) - y)).detach()
    torch.testing.assert_close(gram, (residual @ residual.T) * (x @ x.T + 1))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_condition_number_does_not_depend_on_the_scale(scale):
    def values(*numbers):
        return torch.tensor(numbers, dtype=torch.float64) * scale

    assert capped_condition(values(8, 4, 2)).item() == pytest.approx(4)
    assert capped_condition(values(8, 2, 1e-13, 0)).item() == 1e10  # not 4
    assert capped_condition(values(1, 1e-9)).item() == pytest.approx(1e9)
    assert numerical_rank(values(8, 2, 1e-13, 0)) == 2
    assert math.isnan(capped_condition(values(0, 0, 0)).item())
    assert numerical_rank(values(0, 0, 0)) == 0


def test_effective_rank_is_that_of_the_jacobian(drawn, generator):
    net = drawn(NETS["mlp"]())
    x = torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)
    parameters = {n: p.detach() for n, p in net.named_parameters()}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(net, p, (x,)).sum(1))(parameters)
    s = torch.linalg.svdvals(torch.cat([j.flatten(1) for j in jacobian.values()], dim=1))
    expected = torch.exp(-(s / s.sum() * (s / s.sum()).log()).sum())
    torch.testing.assert_close(effective_rank(eigenvalues(ntk(net, x)).sqrt()), expected, rtol=1e-6, atol=0)


def test_a_kernel_that_is_not_finite_has_nan_eigenvalues():
    assert eigenvalues(torch.tensor([[1.0, math.inf], [math.inf, 1.0]])).isnan().all()
