"""Plasticity injection and C-CHAIN against their rules."""

import copy

import pytest
import torch
from torch.nn import functional as F

from lop.algos import INTERVENTIONS
from lop.nets import NETS
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.rl.ppo import Minibatch, PPOLearner, Rollout
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator


def injected(build, small_task, optimizer="adam", **options):
    learner, first = build(INTERVENTIONS["plasticity_injection"](**options), optimizer=optimizer, lr=0.01)
    learner.start_task(first)
    for x, y in first.batches()[:3]:
        learner.learn(x, y)
    learner.end_task(first)
    return learner, small_task(index=1)


def test_outputs_stay_at_the_injection_and_then_the_new_head_alone_learns(build, small_task):
    learner, task = injected(build, small_task)
    (injection,) = learner.net.plasticity_injection
    assert not injection.weight.requires_grad
    x, _ = task.batches()[0]
    before, head = learner.net(x), learner.net.head.weight.detach().clone()
    learner.start_task(task)
    torch.testing.assert_close(learner.net(x), before, rtol=0, atol=1e-6)
    assert injection.weight.abs().sum() > 0
    assert not torch.equal(injection.weight, head)
    start = injection.weight.detach().clone()
    for x, y in task.batches()[:3]:
        learner.learn(x, y)
    assert torch.equal(learner.net.head.weight, head)
    assert torch.equal(injection.fixed_weight, start)
    assert (injection.weight - start).abs().sum(1).min() > 0  # it has joined the optimizer
    features = learner.net.body(x)
    expected = F.linear(features, head + injection.weight - start, learner.net.head.bias + injection.bias)
    torch.testing.assert_close(learner.net(x), expected - injection.fixed_bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", [True, False])
def test_what_reaches_the_encoder(stop, build, small_task):
    """The gradient by the features is that of W + A with stop_gradient, else that of W + A - B."""
    learner, task = injected(build, small_task, stop_gradient=stop)
    learner.start_task(task)
    (injection,) = learner.net.plasticity_injection
    x, y = task.batches()[0]
    loss = F.cross_entropy(outputs := learner.net(x), y)
    found, by_outputs = torch.autograd.grad(loss, [learner.net.body[3].bias, outputs], retain_graph=True)
    matrix = learner.net.head.weight + injection.weight - (0 if stop else injection.fixed_weight)
    active = (learner.net.body(x) > 0).float()
    torch.testing.assert_close(found, ((by_outputs @ matrix) * active).sum(0), rtol=1e-5, atol=1e-7)


def test_a_replaced_unit_is_silent_in_the_new_head_too(build, small_task):
    learner, task = injected(build, small_task)
    learner.start_task(task)
    for x, y in task.batches()[:3]:
        learner.learn(x, y)
    (injection,) = learner.net.plasticity_injection
    learner.units_replaced(learner.hidden_layers[-1], torch.arange(7) == 2, None)
    difference = injection.weight - injection.fixed_weight
    assert not difference[:, 2].any()
    assert difference[:, [1, 3, 4, 5, 6]].abs().min() > 0
    assert not learner.optimizer.state[injection.weight]["exp_avg"][:, 2].any()


def test_churn_of_a_classification_is_on_the_batch_before(build):
    learner, task = build(INTERVENTIONS["c_chain"](weight=0.5), optimizer="sgd", lr=0.1)
    (one,) = learner.interventions
    nets, batches = [], task.batches()
    learner.start_task(task)
    for k in range(4):
        nets.append(copy.deepcopy(learner.net))
        learner.before_step(batches[k][0])
        value = one.penalty()
        if k == 0:
            assert value is None
        else:
            x = batches[k - 1][0]
            before, now = nets[k - 1](x).softmax(1), learner.net(x).log_softmax(1)
            torch.testing.assert_close(value, 0.5 * -(before * now).sum(1).mean())
        with torch.no_grad():
            for p in learner.net.parameters():
                p += 0.05 * torch.randn(p.shape, generator=make_generator(k, "walk"))


def policy(target=None, weight=1.0):
    net = NETS["actor_critic"]((5,), 2, hidden=[6])
    initialise_(net, make_generator(0, "net"))
    chain = INTERVENTIONS["c_chain"](weight=weight, target=target, first=2, window=3)
    return PPOLearner(net, get_optimizer("adam", net, lr=0.003), [chain]), chain


def rollout(seed):
    generator = make_generator(seed, "rollout")
    x = torch.randn(12, 5, generator=generator)
    numbers = [torch.randn(12, generator=generator) / 10 - 2 * (k == 0) for k in range(4)]
    whole = Minibatch(torch.randn(12, 2, generator=generator), *numbers)
    rows = torch.arange(12).split(4)
    return x, Rollout(whole, [], lambda: iter([(x[i], Minibatch(*(column[i] for column in whole))) for i in rows]))


def test_churn_of_a_policy_is_on_a_batch_of_its_own(monkeypatch):
    learner, chain = policy(weight=3.0)
    seen, earlier = [], []
    penalty = type(chain).penalty

    def watched(self):
        value = penalty(self)
        if value is not None:
            (x,) = self._batch
            now, before = learner.net(x)[:, :2], earlier[-1](x)[:, :2]
            torch.testing.assert_close(value, 3.0 * (now - before).square().mean())
            seen.append(x)
        earlier.append(copy.deepcopy(learner.net))
        return value

    monkeypatch.setattr(type(chain), "penalty", watched)
    x, y = rollout(0)
    learner.learn(x, y)
    assert len(seen) == 2  # of three steps, the first of which has no policy before it
    for batch in seen:
        assert all(any(torch.equal(row, other) for other in x) for row in batch)
    assert not any(torch.equal(batch, x[i]) for batch in seen for i in torch.arange(12).split(4))


def waits(tensor):
    raise AssertionError("the host waits for the device")


def test_the_coefficient_follows_the_policy_loss(monkeypatch):
    learner, chain = policy(target=0.5)
    losses, churns = [], []
    for update in range(5):
        assert chain.coefficient == 1.0 or update >= 2
        with monkeypatch.context() as here:
            here.setattr(torch.Tensor, "item", waits)
            here.setattr(torch.Tensor, "__float__", waits)
            learner.learn(*rollout(update))
            learner.end_epoch(None, update)
        losses.append(abs(learner.policy_loss().item()))
        churns.append(chain._churn.item())
        if update >= 1:
            recent = slice(max(0, update - 2), update + 1)
            mean = lambda values: sum(values[recent]) / len(values[recent])  # noqa: B023, E731
            assert float(chain.coefficient) == pytest.approx(max(0.5 * mean(losses) / (mean(churns) + 1e-8), 1.0))
    chain.start_task(None)
    assert chain.coefficient == 1.0


def test_an_update_counts_when_the_run_stops_right_after_it():
    """Its end is then in another process, which has seen no loss."""
    learner, chain = policy(target=0.5)
    for update in range(3):
        learner.learn(*rollout(update))
        state = copy.deepcopy(learner.state_dict())
        learner.end_epoch(None, update)
    resumed, again = policy(target=0.5)
    resumed.load_state_dict(state)
    resumed.end_epoch(None, 2)
    assert float(again.coefficient) == float(chain.coefficient) != 1.0


def test_a_target_needs_a_policy(build):
    with pytest.raises(UserError, match="target is for PPO"):
        build(INTERVENTIONS["c_chain"](target=1.0))
