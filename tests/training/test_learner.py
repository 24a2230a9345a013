import copy

import pytest
import torch
from torch.nn import functional as F

from lop.algos import Intervention
from lop.nets import MLP
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.utils.seeding import make_generator


class Recording(Intervention):
    needs_features = True

    def __init__(self):
        self.features = None

    def penalty(self):
        return 0.5 * sum(p.square().sum() for p in self.host.net.parameters())

    def after_step(self, features):
        self.features = [f.clone() for f in features]


def make_learner(*interventions, optimizer="sgd", lr=0.1, **options):
    net = MLP((6,), 4, hidden=[5, 5])
    initialise_(net, make_generator(0, "net"))
    return Learner(net, get_optimizer(optimizer, net, lr=lr, **options), interventions)


def batch(seed=0):
    generator = make_generator(seed, "data")
    return torch.randn(8, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)


class FakeTask:
    active = torch.tensor([0, 1, 2])


def test_step_result_is_of_the_unperturbed_pass_before_the_update():
    x, y = batch()
    for name in ("sgd", "sassha"):
        learner = make_learner(Recording(), optimizer=name)
        expected = learner.net(x).detach()
        layer = learner.hidden_layers[0]
        hidden = layer.activation(layer.incoming(x)).detach()
        result = learner.learn(x, y)
        assert torch.equal(result.logits, expected)
        assert torch.allclose(result.loss, F.cross_entropy(expected, y))
        assert torch.equal(learner.interventions[0].features[0], hidden)
        assert not result.logits.requires_grad
        assert not torch.equal(learner.net(x), expected)


def test_penalty_is_part_of_what_is_minimised():
    x, y = batch()
    plain, penalised = make_learner(), make_learner(Recording())
    before = [p.detach().clone() for p in plain.net.parameters()]
    plain.learn(x, y)
    penalised.learn(x, y)
    for p0, p, q in zip(before, plain.net.parameters(), penalised.net.parameters(), strict=True):
        torch.testing.assert_close(q, p - 0.1 * p0)


def test_inactive_outputs_are_masked_and_not_trained():
    x, y = batch()
    learner = make_learner()
    learner.set_task(FakeTask())
    head = learner.net.head.weight.detach().clone()
    result = learner.learn(x, y)
    assert torch.equal(result.logits[:, 3], torch.full((8,), float("-inf")))
    assert torch.equal(learner.net.head.weight[3], head[3])
    assert torch.isfinite(result.loss)
    assert (learner.predict(x).argmax(1) < 3).all()


def test_ema_predicts_with_the_average_and_trains_without_it():
    from lop.algos.ema import EMA

    x, y = batch()
    learner, plain = make_learner(EMA(decay=0.5)), make_learner()
    weight = [learner.net.head.weight.detach().clone()]
    for _ in range(2):
        learner.learn(x, y)
        plain.learn(x, y)
        weight.append(learner.net.head.weight.detach().clone())
    assert torch.equal(learner.net.head.weight, plain.net.head.weight)
    shadow = 0.25 * weight[0] + 0.25 * weight[1] + 0.5 * weight[2]
    torch.testing.assert_close(learner.interventions[0].evaluation_parameters()["head.weight"], shadow)
    assert not torch.equal(learner.predict(x), plain.predict(x))


def test_global_random_state_is_untouched():
    state = torch.get_rng_state()
    learner = make_learner(optimizer="sassha")
    learner.learn(*batch())
    assert torch.equal(torch.get_rng_state(), state)


class Task4:
    """Of the outputs given; None: all four."""

    def __init__(self, *active: int):
        self.active = torch.tensor(active) if active else None


def head_step(learner, x, y):
    """What one update does to the head, weights and biases together (4, ...)."""
    head = learner.net.output_layer()
    before = torch.cat([head.weight, head.bias.unsqueeze(1)], 1).detach()
    learner.learn(x, y)
    return torch.cat([head.weight, head.bias.unsqueeze(1)], 1).detach() - before


LATE = {"adam": {}, "adahessian": {}, "sassha": {"lazy_hessian": 1}, "sophiah": {"lazy_hessian": 1}}


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("second", [(), (0, 3), (1, 2, 3)])
@pytest.mark.parametrize("name", LATE)
def test_an_output_that_becomes_active_starts_as_a_new_one(name, second, resumed):
    """Its first step is a new optimizer's, also when the process was stopped between the tasks."""
    learner = make_learner(optimizer=name, lr=0.01, **LATE[name])
    learner.start_task(Task4(0, 1, 2))
    for seed in range(40):
        learner.learn(*batch(seed))
    if resumed:
        saved, learner = learner.state_dict(), make_learner(optimizer=name, lr=0.01, **LATE[name])
        learner.load_state_dict(saved)
    learner.start_task(Task4(*second))
    fresh = make_learner(optimizer=name, lr=0.01, **LATE[name])
    fresh.net.load_state_dict(learner.net.state_dict())
    fresh.optimizer.generator.set_state(learner.optimizer.generator.get_state())
    fresh.start_task(Task4(*second))
    x, _ = batch(200)
    y = torch.tensor([3, 1, 3, 1, 3, 3, 1, 1] if 1 in second or not second else [0, 3] * 4)
    expected, found = head_step(fresh, x, y), head_step(learner, x, y)
    assert expected[3].abs().max() > 0
    torch.testing.assert_close(found[3], expected[3], rtol=1e-4, atol=1e-7)
    assert not torch.allclose(found[1], expected[1], rtol=1e-2) or 1 not in (second or (1,))  # the others go on


def test_a_resume_in_mid_task_resets_no_output():
    learner = make_learner(optimizer="adam", lr=0.01)
    learner.start_task(Task4(0, 1, 2))
    learner.learn(*batch())
    learner.start_task(Task4())
    for seed in range(5):
        learner.learn(*batch(seed))
    resumed = make_learner(optimizer="adam", lr=0.01)
    resumed.load_state_dict(copy.deepcopy(learner.state_dict()))
    resumed.set_task(Task4())
    assert torch.equal(head_step(learner, *batch(9)), head_step(resumed, *batch(9)))
    for each in (learner, resumed):
        each.start_task(Task4(0, 1))
        each.learn(torch.zeros(2, 6), torch.tensor([0, 1]))
        each.start_task(Task4())
    assert torch.equal(head_step(learner, *batch(9)), head_step(resumed, *batch(9)))
