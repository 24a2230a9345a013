"""Diagnostics of weights and gradients."""

import math

import pytest
import torch
from torch import nn

from lop.metrics.gradients import gradient_cosines, zero_share
from lop.metrics.numerics import all_finite
from lop.metrics.trainability import trainability
from lop.metrics.weights import distance, mean_magnitude, weight_condition, weight_effective_rank


def test_mean_magnitude_is_over_all_entries_together(generator):
    tensors = [torch.randn(shape, generator=generator) for shape in ((300, 400), (5, 3, 3, 3), (400,), ())]
    flat = torch.cat([t.double().reshape(-1) for t in tensors])
    assert mean_magnitude(tensors).item() == pytest.approx(flat.abs().mean().item(), rel=1e-7)


def test_weight_values_are_those_of_the_matrix_of_filters():
    q1 = torch.linalg.qr(torch.randn(18, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    weight = (torch.diag(torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)) @ q1.T).reshape(3, 2, 3, 3)
    assert weight_condition(weight).item() == pytest.approx(4)
    shares = [4 / 7, 2 / 7, 1 / 7]
    assert weight_effective_rank(weight).item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_values_of_a_weight_that_is_not_finite_are_nan():
    weight = torch.full((3, 2), math.nan)
    assert math.isnan(weight_condition(weight).item())
    assert math.isnan(weight_effective_rank(weight).item())


def test_distance_is_over_all_parameters_together():
    now, start = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], [torch.zeros(2), torch.zeros(1, 1)]
    assert distance(now, start).item() == 5


def test_zero_share_weighs_by_size():
    assert zero_share([torch.tensor([0.0, 1.0, 0.0]), torch.tensor([[2.0]])]).item() == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_zero_share_of_a_gradient_that_is_not_finite_is_no_number(bad):
    assert math.isnan(zero_share([torch.tensor([0.0, bad, 1.0]), torch.zeros(3)]).item())


def test_a_weight_without_full_rank_has_the_largest_condition_number():
    weight = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert weight_condition(weight).item() == weight_condition(1e-20 * weight).item() == 1e10
    assert math.isnan(weight_condition(torch.zeros(2, 3)).item())


def test_gradient_cosines_equal_single_backward_passes(generator):
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)).double()
    x, y = torch.randn(6, 4, generator=generator).double(), torch.randint(0, 5, (6,), generator=generator)
    rows = []
    for i in range(6):
        loss = nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]))
    rows = torch.nn.functional.normalize(torch.stack(rows))
    torch.testing.assert_close(gradient_cosines(net, x, y, "cross_entropy"), rows @ rows.T)


def test_an_example_without_gradient_has_cosine_zero(generator):
    net = nn.Linear(2, 1).double()
    x = torch.randn(3, 2, generator=generator).double()
    y = net(x).detach()
    y[1:] += 1
    cosines = gradient_cosines(net, x, y, "mse")
    assert cosines[0].tolist() == [0, 0, 0]
    assert cosines[1, 1].item() == pytest.approx(1)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_trainability_is_what_sgd_on_a_copy_reaches(loss, generator):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double().eval()
    x = torch.randn(10, 4, generator=generator).double()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    seed = 5
    reached = trainability(net, x, loss, torch.Generator().manual_seed(seed), steps=20, lr=0.3)
    torch.testing.assert_close(dict(net.state_dict()), state, rtol=0, atol=0)
    assert not any(m.training for m in net.modules())

    if loss == "mse":
        targets = torch.randn(10, 3, generator=torch.Generator().manual_seed(seed)).double()
        criterion = nn.functional.mse_loss
    else:
        targets = torch.randint(3, (10,), generator=torch.Generator().manual_seed(seed))
        criterion = nn.functional.cross_entropy
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    start = criterion(net(x), targets).item()
    for _ in range(20):
        optimizer.zero_grad()
        criterion(net(x), targets).backward()
        optimizer.step()
    assert reached.item() == pytest.approx(criterion(net(x), targets).item(), rel=1e-9)
    assert reached.item() < start


def test_trainability_draws_labels_from_the_active_classes(generator):
    net = nn.Linear(4, 9)
    x = torch.randn(10, 4, generator=generator)
    reached = trainability(net, x, "cross_entropy", generator, steps=1, active=torch.tensor([7, 2]))
    assert math.isfinite(reached.item())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_entry_that_is_not_finite_is_found(bad):
    good = torch.full((40, 50), 3e38)  # finite, though its sum is not
    assert all_finite([good, torch.zeros(3)])
    broken = torch.zeros(40, 50)
    broken[39, 7] = bad
    assert not all_finite([good, broken])
