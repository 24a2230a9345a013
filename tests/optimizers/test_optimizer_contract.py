"""What every listed optimizer must do. A new optimizer is tested by being listed."""

import copy
import gc
import io

import pytest
import torch
from optimizer_problems import EAGER, Problem, fill, same, small_net
from torch import nn
from torch.nn.functional import cross_entropy

from lop.optimizers import get_optimizer, list_optimizers

ALL = list_optimizers()
# torch's L-BFGS allows a single group, and Rprop's lr only starts its step sizes
WITH_LR_PER_GROUP = [name for name in ALL if name not in ("lbfgs", "rprop")]
# TRAC scales the whole path anew in every step, those of an lr of 0 included
WITH_LR_PER_STEP = [name for name in WITH_LR_PER_GROUP if name != "trac"]


@pytest.mark.parametrize("name", ALL)
def test_lowers_a_convex_loss(name):
    problem = Problem(name, net=fill(nn.Linear(5, 3)))
    losses = problem.run(40)
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(p).all() for p in problem.net.parameters())


@pytest.mark.parametrize("name", ALL)
def test_first_call_is_unperturbed_and_its_loss_is_returned(name):
    problem = Problem(name)
    start = problem.values()
    for _ in range(3):
        before, at_call = problem.values(), []

        def closure(at_call=at_call):
            at_call.append(problem.values())
            return problem.loss()

        expected = problem.loss().detach()
        loss = problem.optimizer.step(closure)
        assert same(at_call[0], before)
        assert torch.equal(loss, expected)
        assert not loss.requires_grad
    assert all(p.grad is None for p in problem.net.parameters())
    assert not same(problem.values(), start)


@pytest.mark.parametrize("name", ALL)
def test_saved_state_continues_bit_identically(name):
    problem = Problem(name)
    problem.run(7)
    file = io.BytesIO()
    torch.save({"net": problem.net.state_dict(), "optimizer": problem.optimizer.state_dict()}, file)
    expected = problem.run(13)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Problem(name)
    resumed.net.load_state_dict(saved["net"])
    resumed.optimizer.load_state_dict(saved["optimizer"])
    assert resumed.run(13) == expected
    assert same(resumed.values(), problem.values())


@pytest.mark.parametrize("name", ALL)
def test_deep_copy_continues_on_its_own(name):
    problem = Problem(name)
    scheduler = torch.optim.lr_scheduler.ConstantLR(problem.optimizer, 1.0)
    problem.run(4)
    twin = copy.deepcopy(problem)
    before = problem.values()
    ahead = twin.run(8)
    assert same(problem.values(), before)
    assert problem.run(8) == ahead
    scheduler.step()


@pytest.mark.parametrize("name", WITH_LR_PER_GROUP)
def test_groups_have_their_own_lr(name):
    net = small_net()
    problem = Problem("sgd", net=net)
    needs_model = name in ("kfac", "sophiag")
    given = net if needs_model else [{"params": net[0].parameters(), "lr": 0.0}]
    problem.optimizer = get_optimizer(name, given, **EAGER.get(name, {}))
    if needs_model:
        (group,) = problem.optimizer.param_groups
        group["params"], head = list(net[0].parameters()), list(net[2].parameters())
        group["lr"] = 0.0
        problem.optimizer.add_param_group({"params": head, "lr": 1e-2})
    else:
        problem.optimizer.add_param_group({"params": net[2].parameters()})
    before = problem.values()
    problem.run(3)
    still = len(list(net[0].parameters()))
    assert same(problem.values()[:still], before[:still])
    assert all(not torch.equal(a, b) for a, b in zip(problem.values()[still:], before[still:], strict=True))


@pytest.mark.parametrize("name", WITH_LR_PER_STEP)
def test_schedulers_set_the_step_size(name):
    problem = Problem(name)
    scheduler = torch.optim.lr_scheduler.LambdaLR(problem.optimizer, lambda t: 1.0 if t < 2 else 0.0)
    for _ in range(2):
        before = problem.values()
        problem.run(1)
        scheduler.step()
        assert not same(problem.values(), before)
    problem.run(1)  # ASGD reads the lr one step late
    before = problem.values()
    problem.run(2)
    assert same(problem.values(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_other_precisions(name, dtype):
    options = {"lr": 0.05} if name in ("sgd", "radam", "muon") else {}  # their default steps round to 0 in bfloat16
    problem = Problem(name, dtype=dtype, **options)
    losses = problem.run(12)
    assert all(p.dtype == dtype and torch.isfinite(p).all() for p in problem.net.parameters())
    assert min(losses[1:]) < losses[0]


class PartlyUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = fill(nn.Linear(5, 3))
        self.frozen = fill(nn.Linear(3, 3))
        self.unused = fill(nn.Linear(4, 4))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.frozen(self.used(x))


@pytest.mark.parametrize("name", ALL)
def test_frozen_and_unreached_parameters_stay(name):
    problem = Problem(name, net=PartlyUsed())
    still = [*problem.net.frozen.parameters(), *problem.net.unused.parameters()]
    before, used = [p.detach().clone() for p in still], problem.net.used.weight.detach().clone()
    problem.run(3)
    assert same(still, before)
    assert not torch.equal(problem.net.used.weight, used)
    problem.net.frozen.requires_grad_(True)
    problem.run(12)
    assert not torch.equal(problem.net.frozen.weight, before[0])


@pytest.mark.parametrize("name", ALL)
def test_penalty_in_the_loss_is_differentiated(name):
    problem = Problem(name)

    def penalised():
        return problem.loss() * 0 + 0.5 * sum((p * p).sum() for p in problem.net.parameters())

    before = sum((p * p).sum() for p in problem.values())
    for _ in range(10):
        problem.optimizer.step(penalised)
    assert sum((p * p).sum() for p in problem.values()) < before


@pytest.mark.parametrize("name", ALL)
def test_divergence_is_no_crash(name):
    problem = Problem(name)
    problem.run(2)
    problem.x = problem.x * float("nan")
    losses = problem.run(3)
    assert losses[0] != losses[0]


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        fill(self)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.first(x))))


@pytest.mark.parametrize("name", ALL)
def test_batch_norm_statistics_see_the_first_pass_only(name):
    problem = Problem(name, net=Normed())
    for step in range(1, 4):
        expected = copy.deepcopy(problem.net)
        expected(problem.x)
        problem.run(1)
        assert problem.net.norm.num_batches_tracked == step
        assert torch.equal(problem.net.norm.running_mean, expected.norm.running_mean)
        assert torch.equal(problem.net.norm.running_var, expected.norm.running_var)


@pytest.mark.parametrize("name", ALL)
def test_clips_to_the_global_gradient_norm(name):
    """A limit far above the gradient changes nothing; one below it changes the steps, but for Rprop's: signs alone."""
    options = {"adam_lr": 0.1} if name == "muon" else {}  # with its default a bias hardly moves in three steps
    free, wide = Problem(name, max_grad_norm=None, **options), Problem(name, max_grad_norm=1e12, **options)
    free.run(3), wide.run(3)
    for a, b in zip(free.values(), wide.values(), strict=True):
        torch.testing.assert_close(a, b)
    bitten = Problem(name, max_grad_norm=0.05, **options)
    bitten.run(3)
    changed = [not torch.allclose(a, b, rtol=1e-6, atol=0) for a, b in zip(free.values(), bitten.values(), strict=True)]
    assert all(changed) == (name != "rprop")


@pytest.mark.parametrize("name", ALL)
def test_steps_leave_nothing_behind(name):
    problem = Problem(name)
    gc.disable()  # reference cycles would be found, and counted as a leak
    try:
        problem.run(12)
        before = sum(type(o) in (torch.Tensor, nn.Parameter) for o in gc.get_objects())
        problem.run(20)
        after = sum(type(o) in (torch.Tensor, nn.Parameter) for o in gc.get_objects())
    finally:
        gc.enable()
    assert after <= before


def test_global_random_state_is_untouched():
    problems = [Problem(name) for name in ALL]  # torch's layers draw from it when they are built
    before = torch.random.get_rng_state()
    for problem in problems:
        problem.run(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_convex_problem_is_what_it_says():
    problem = Problem("adam", net=fill(nn.Linear(5, 3)), lr=0.05)
    problem.run(600)
    loss = cross_entropy(problem.net(problem.x), problem.y)
    grads = torch.autograd.grad(loss, list(problem.net.parameters()))
    assert max(g.abs().max() for g in grads) < 1e-2
