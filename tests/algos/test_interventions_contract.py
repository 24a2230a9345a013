"""What every intervention owes to every optimizer. A new one is tested by being listed."""

import io

import pytest
import torch
from bitwise import same
from eager import EAGER

from lop.algos import INTERVENTIONS
from lop.optimizers import OPTIMIZERS

RATES = {"kfac": 0.01, "shampoo": 0.01, "sassha": 0.01, "adahessian": 0.01, "adam": 0.001, "sgd": 0.05}
ELEMENTWISE, CURVATURE = ("adam", "sgd"), ("kfac", "shampoo", "sassha", "adahessian")
EPOCHS = 2


def make(name):
    return INTERVENTIONS[name](**EAGER.get(name, {}))


def train(learner, task_of, start=0, stop=10**9):
    """Tasks of two epochs of six batches, from global step `start` to `stop`, as the loop of a run does it."""
    step = 0
    for index in range(3):
        task = task_of(index)
        for epoch in range(EPOCHS):
            for i, (x, y) in enumerate(task.batches(epoch)):
                if step == start and start > 0:
                    learner.set_task(task)
                if step >= start:
                    if i == 0 and epoch == 0:
                        learner.start_task(task)
                    if i == 0:
                        learner.start_epoch(task, epoch)
                    learner.learn(x, y)
                step += 1
                if step >= stop:
                    return
            if step > start:
                learner.end_epoch(task, epoch)
        if step > start:
            learner.end_task(task)


# Each with an elementwise optimizer and with one that holds curvature, in turn: what a method saves does not depend on
# the optimizer. What an optimizer saves is tested with the optimizers, not here under all methods at once.
PAIRS = [
    (name, kind[i % len(kind)]) for i, name in enumerate(sorted(INTERVENTIONS)) for kind in (ELEMENTWISE, CURVATURE)
]


@pytest.mark.parametrize(("name", "optimizer"), PAIRS)
def test_a_run_continues_bit_identically_from_a_saved_state(name, optimizer, build, small_task):
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    learner, _ = build(make(name), optimizer=optimizer, lr=RATES[optimizer], **options)
    train(learner, lambda k: small_task(index=k), stop=15)
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    train(learner, lambda k: small_task(index=k), start=15)

    resumed, _ = build(make(name), optimizer=optimizer, lr=RATES[optimizer], **options)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(resumed, lambda k: small_task(index=k), start=15)

    for p, q in zip(learner.net.parameters(), resumed.net.parameters(), strict=True):
        assert torch.isfinite(p).all()
        assert torch.equal(p, q)
    assert same(learner.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", sorted(set(INTERVENTIONS) - {"bp", "ema", "early_stopping", "step_schedule"}))
def test_it_changes_what_is_learned(name, build, small_task):
    """A listed method that does nothing is a mistake in the list."""
    optimizer = "adam" if name in ("optimizer_reset", "adam_rel") else "sgd"  # one that has something to forget
    plain, _ = build(optimizer=optimizer, lr=0.05)
    other, _ = build(make(name), optimizer=optimizer, lr=0.05)
    for learner in (plain, other):
        train(learner, lambda k: small_task(index=k))
    assert not torch.equal(plain.net.head.weight, other.net.head.weight)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_all_of_them_at_once_with_every_optimizer(optimizer, build, small_task):
    options = {"max_iter": 2} if optimizer == "lbfgs" else {}
    learner, _ = build(*(make(name) for name in INTERVENTIONS), optimizer=optimizer, lr=1e-4, **options)
    before = learner.net.head.weight.detach().clone()
    train(learner, lambda k: small_task(index=k), stop=14)
    assert all(torch.isfinite(p).all() for p in learner.net.parameters())
    assert not torch.equal(learner.net.head.weight, before)


@pytest.mark.parametrize("net", ["convnet", "resnet18", "actor_critic"])
@pytest.mark.parametrize("name", sorted(INTERVENTIONS))
def test_every_net(name, net, build, small_task):
    learner, _ = build(make(name), net=net, optimizer="sgd", lr=0.01, momentum=0.9)
    train(learner, lambda k: small_task(net, index=k), stop=14)
    assert all(torch.isfinite(p).all() for p in learner.net.parameters())


def test_the_global_random_state_is_untouched(build, small_task):
    state = torch.get_rng_state()
    learner, _ = build(*(make(name) for name in INTERVENTIONS))
    train(learner, lambda k: small_task(index=k))
    assert torch.equal(torch.get_rng_state(), state)


def test_one_that_is_listed_twice_draws_other_numbers(build):
    """Two noises of the same kind must add as independent ones do, not as one of twice the size."""

    def moved(*names: str) -> torch.Tensor:
        learner, task = build(*(make(name) for name in names), optimizer="sgd", lr=0.0)
        before = learner.net.head.weight.detach().clone()
        learner.learn(*task.batches()[0])
        return learner.net.head.weight.detach() - before

    once, twice = moved("shrink_and_perturb"), moved("shrink_and_perturb", "shrink_and_perturb")
    assert once.abs().max() > 0
    correlation = torch.corrcoef(torch.stack([once.flatten(), (twice - once).flatten()]))[0, 1]
    assert correlation < 0.9
