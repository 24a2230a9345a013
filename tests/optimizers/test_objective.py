"""Penalties whose gradient is known in closed form: what they do to a step is what autograd would."""

import pytest
import torch
from torch import nn

from lop.algos import INTERVENTIONS, Intervention
from lop.nets import MLP
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.optimizers.objective import Objective
from lop.training.learner import Learner
from lop.utils.seeding import make_generator

OPTIONS = {
    "l2": [{}],
    "l1_init": [{}],
    "l2_init": [{}],
    "huber_init": [{"delta": 0.02}],
    "hybrid_init": [{}],
    "wasserstein_init": [{}, {"reduction": "sum"}],
    "ewc": [{"fisher": False}, {"samples": 4}],
    "l2_init_ewc": [{"samples": 4}],
    "l2_er": [{}],
    "spectral_reg": [{}, {"exponent": 1.0, "target": 0.3}],
    "parseval": [{}, {"width_factor": False, "head": True, "norms": True}],
}
CASES = [(name, options) for name, forms in OPTIONS.items() for options in forms]


class OneBatch:
    active = None

    def __init__(self):
        generator = make_generator(0, "batch")
        self.x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 3, (6,), generator=generator)

    def reference(self, size):
        return self.x[:size], self.y[:size]


def learner_with(*interventions, optimizer="sgd", **options):
    """After a task, with weights that are not its last ones."""
    net = MLP((5,), 3, hidden=[7, 4], layer_norm=True).double()
    initialise_(net, make_generator(0, "net"))
    learner = Learner(net, get_optimizer(optimizer, net, lr=0.05, **options), interventions)
    task = OneBatch()
    learner.set_task(task)
    learner.end_task(task)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=make_generator(1), dtype=p.dtype))
    return learner, task


def test_every_penalty_that_knows_its_gradient_is_tried():
    assert set(OPTIONS) == {name for name, kind in INTERVENTIONS.items() if kind.knows_gradient()}


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n} {' '.join(o)}" for n, o in CASES])
def test_the_gradient_is_autograds(name, options):
    penalty = INTERVENTIONS[name](weight=0.3, **options)
    learner, _ = learner_with(penalty)
    params = list(learner.net.parameters())
    expected = torch.autograd.grad(penalty.penalty(), params, allow_unused=True, materialize_grads=True)
    start = [torch.full_like(p, 0.5) for p in params]
    start[0] = start[0].T.contiguous().T  # whose memory is in another order
    reached = [None if i == 1 else g.clone() for i, g in enumerate(start)]
    objective = Objective(lambda: None, [penalty])
    found = objective.completed(params, reached)
    for i, (g, e) in enumerate(zip(found, expected, strict=True)):
        if g is None:
            assert i == 1
            assert not e.any()
        else:
            torch.testing.assert_close(g - (0.0 if i == 1 else 0.5), e, rtol=1e-12, atol=1e-12)
    assert any(e.any() for e in expected)


class Watching(Intervention):
    needs_gradients = True

    def on_gradients(self, gradients):
        self.seen = {p: g.clone() for p, g in gradients.items()}


def trained(monkeypatch, known, optimizer, options, watching=False):
    names = ("l2_init", "parseval")
    with monkeypatch.context() as patch:
        if not known:
            for name in names:
                patch.setattr(INTERVENTIONS[name], "add_penalty_gradient", Intervention.add_penalty_gradient)
        watcher = [Watching()] if watching else []
        penalties = [INTERVENTIONS["l2_init"](weight=0.5), INTERVENTIONS["parseval"](weight=0.01)]
        learner, task = learner_with(*penalties, *watcher, optimizer=optimizer, **options)
        assert bool(learner.known_penalties) == known
        for _ in range(6):
            learner.learn(task.x, task.y)
    gradients = list(watcher[0].seen.values()) if watching else []
    return [p.detach() for p in learner.net.parameters()] + gradients


OPTIMIZERS = {
    "sgd": {"max_grad_norm": 0.5},
    "adam": {},
    "sam": {"rho": 0.1},
    "sassha": {"lazy_hessian": 2},
    "msassha": {"lazy_hessian": 2},
    "sophiag": {"lazy_hessian": 2},
    "shampoo": {},
    "kfac": {"adapt_damping": True},
    "lbfgs": {"line_search_fn": "strong_wolfe"},
    "trac": {},
}


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_steps_are_those_through_autograd(optimizer, monkeypatch):
    """Perturbed passes, lazy curvature, clips and line searches included."""
    expected = trained(monkeypatch, False, optimizer, OPTIMIZERS[optimizer])
    for p, e in zip(trained(monkeypatch, True, optimizer, OPTIMIZERS[optimizer]), expected, strict=True):
        torch.testing.assert_close(p, e, rtol=1e-9, atol=1e-11)


def test_who_looks_at_gradients_sees_the_penalties(monkeypatch):
    expected = trained(monkeypatch, False, "sgd", {}, watching=True)
    found = trained(monkeypatch, True, "sgd", {}, watching=True)
    assert len(found) == 2 * len(list(learner_with()[0].net.parameters()))
    for p, e in zip(found, expected, strict=True):
        torch.testing.assert_close(p, e, rtol=1e-12, atol=1e-12)


class Constant:
    """A term with gradient `slope` in every parameter."""

    def __init__(self, params, slope):
        self.params, self.slope = params, slope

    def penalty(self):
        return sum(self.slope * p.sum() for p in self.params)

    def add_penalty_gradient(self, gradients):
        for p in self.params:
            gradients[p].add_(self.slope)


def test_gradients_that_share_memory_are_told_apart():
    a, b, c, unreached = (nn.Parameter(torch.ones(3)) for _ in range(4))
    weights = torch.tensor([1.0, 2.0, 3.0])

    def part():
        return torch.dot(a + b, weights) + c.sum()  # one gradient for both; and one number for all entries

    optimizer = get_optimizer("sgd", [a, b, c, unreached], lr=1.0)
    optimizer.step(Objective(part, [Constant([a, b, c, unreached], 10.0)]))
    for p in (a, b):
        assert torch.equal(p, 1 - 10 - weights)
    assert torch.equal(c, torch.full((3,), 1.0 - 10 - 1))
    assert torch.equal(unreached, torch.full((3,), 1.0 - 10))


def test_a_subclass_with_another_penalty_is_differentiated():
    class Doubled(INTERVENTIONS["l2"]):
        def penalty(self):
            return 2 * super().penalty()

    class Known(Doubled):
        def add_penalty_gradient(self, gradients):
            for p in self.parameters.values():
                gradients[p].add_(p, alpha=2 * self.weight)

    assert [kind.knows_gradient() for kind in (INTERVENTIONS["l2"], Doubled, Known)] == [True, False, True]
    ends = []
    for kind in (Doubled, Known):
        learner, task = learner_with(kind(weight=0.5))
        learner.learn(task.x, task.y)
        ends.append(list(learner.net.parameters()))
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
