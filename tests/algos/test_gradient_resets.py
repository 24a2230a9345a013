"""What is reset by gradients: the gradients themselves, ReGraMa, CPR and SWR against slow float64 forms."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lop.algos import Intervention
from lop.algos.cpr import CPR
from lop.algos.gradient_score import gradient_scores
from lop.algos.penalties import L2
from lop.algos.regrama import ReGraMa
from lop.algos.swr import SWR
from lop.nets.base import HiddenLayer
from lop.utils.seeding import make_generator


class Watcher(Intervention):
    """Keeps what it is shown."""

    def __init__(self, wanted=True):
        self.wanted, self.seen, self.calls = wanted, [], []

    @property
    def needs_gradients(self):
        return self.wanted

    def before_step(self, x):
        self.calls.append(("before", x))

    def on_gradients(self, gradients):
        self.calls.append(("gradients",))
        self.seen.append({p: g.clone() for p, g in gradients.items()})

    def after_step(self, features):
        self.calls.append(("after",))


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("sgd", {"momentum": 0.9, "nesterov": True, "foreach": True}),
        ("sgd", {"max_grad_norm": 1e-3}),
        ("adam", {}),
        ("adahessian", {}),
        ("sophiag", {}),
        ("sassha", {}),
        ("sam", {}),
        ("kfac", {}),
        ("shampoo", {}),
        ("lbfgs", {"max_iter": 3}),
    ],
)
def test_the_gradients_are_those_of_the_first_pass_whatever_the_optimizer(optimizer, options, build):
    watcher = Watcher()
    learner, task = build(L2(weight=0.3), watcher, optimizer=optimizer, lr=0.01, double=True, **options)
    for x, y in task.batches()[:3]:
        parameters = list(learner.net.parameters())
        loss = F.cross_entropy(learner.net(x), y) + 0.5 * 0.3 * sum((p**2).sum() for p in parameters)
        expected = torch.autograd.grad(loss, parameters)
        learner.learn(x, y)
        for p, g in zip(parameters, expected, strict=True):
            torch.testing.assert_close(watcher.seen[-1][p], g, rtol=1e-9, atol=1e-12)
            assert not p._backward_hooks
    assert [call[0] for call in watcher.calls] == ["before", "gradients", "after"] * 3
    assert torch.equal(watcher.calls[-3][1], task.batches()[2][0])


def test_gradients_are_shown_to_those_who_need_them(build):
    one, other = Watcher(), Watcher(wanted=False)
    learner, task = build(one, other)
    learner.learn(*task.batches()[0])
    one.wanted = False
    learner.learn(*task.batches()[1])
    assert len(one.seen) == 1
    assert other.seen == []
    assert [call[0] for call in other.calls] == ["before", "after"] * 2


def test_scores():
    g = torch.randn(5, 3, 2, 2, generator=make_generator(0), dtype=torch.float64)
    g[3] = 0
    means = [np.abs(g[i].numpy()).mean() for i in range(5)]
    np.testing.assert_allclose(gradient_scores(g).numpy(), np.array(means) / (np.mean(means) + 1e-8), rtol=1e-12)


def gradients_at(learner, x, y):
    parameters = dict(learner.net.named_parameters())
    loss = F.cross_entropy(learner.net(x), y)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: g.numpy() for name, g in zip(parameters, found, strict=True) if g is not None}


class Listener(Intervention):
    def __init__(self):
        self.heard = []

    def on_units_replaced(self, layer: HiddenLayer, mask):
        self.heard.append((layer.name, mask.clone()))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("net", ["mlp", "convnet", "resnet18", "actor_critic"])
def test_regrama_resets_units_that_get_little_gradient(net, keep, build):
    listener = Listener()
    method = ReGraMa(period=2, threshold=0.7, keep_outgoing=keep)
    learner, task = build(method, listener, net=net, optimizer="adam", lr=1e-3, double=True)
    plain, _ = build(net=net, optimizer="adam", lr=1e-3, double=True)
    names = {id(p): name for name, p in learner.net.named_parameters()}
    (first, second), reset_any = task.batches()[:2], False
    learner.learn(*first)
    assert listener.heard == []
    plain.learn(*first)
    gradients = gradients_at(copy.deepcopy(plain), *second)
    learner.learn(*second)
    plain.learn(*second)
    free = dict(plain.net.named_parameters())
    got = dict(learner.net.named_parameters())
    written = set()
    for layer in (layer for layer in learner.hidden_layers if layer.outgoing):
        key = names[id(layer.incoming.weight)]
        score = np.abs(gradients[key]).reshape(layer.units, -1).mean(1)
        units = np.flatnonzero(score <= 0.7 * (score.mean() + 1e-8))
        (mask,) = [mask for name, mask in listener.heard if name == layer.name]
        assert np.array_equal(np.flatnonzero(mask.numpy()), units)
        reset_any |= len(units) > 0
        for u in units:
            assert not np.isin(got[key][u].detach().numpy(), free[key][u].detach().numpy()).any()
            written.add((key, u))
            state = learner.optimizer.state[layer.incoming.weight]
            assert not state["exp_avg"][u].any()
            assert not state["exp_avg_sq"][u].any()
        if layer.incoming.bias is not None:
            assert not layer.incoming.bias[mask].any()
        for reader in layer.outgoing:
            out = layer.outgoing_weight(reader)[:, :, mask]
            assert keep == bool(out.any()) or not len(units)
    assert reset_any
    for name, p in got.items():
        if name.endswith("weight") and p.dim() > 1 and "head" not in name:
            others = [u for u in range(len(p)) if (name, u) not in written]
            same = p[others] == free[name][others]
            assert keep is False or same.all()


def test_regrama_never_acts_where_every_unit_learns(build):
    learner, task = build(ReGraMa(period=1, threshold=0.0), double=True)
    plain, _ = build(double=True)
    for x, y in task.batches()[:1]:
        learner.learn(x, y)
        plain.learn(x, y)
    silent = [layer.incoming.weight for layer in plain.hidden_layers]
    for p, q in zip([layer.incoming.weight for layer in learner.hidden_layers], silent, strict=True):
        moved = (p != q).flatten(1).any(1)
        assert moved.sum() <= 2  # at most the units that no example of the batch reached


def slow_cpr(net, utilities, rate, sharpness, fresh):
    """An MLP's layers in order; utilities and fresh weights by layer."""
    layers = net.hidden_layers()
    weights = {id(m): m.weight.detach().numpy().copy() for m in [*(layer.incoming for layer in layers), net.head]}
    for layer, u, new in zip(layers, utilities, fresh, strict=True):
        w, out = weights[id(layer.incoming)], weights[id(layer.outgoing[0])]
        for i in range(layer.units):
            r = rate * min(1.0, 2 / (1 + np.exp(sharpness * (u[i] - 1))))
            w[i] = (1 - r) * w[i] + r * new[i]
            out[:, i] *= 1 - r
    return weights


def test_cpr(build, monkeypatch):
    rate, sharpness, decay = 0.3, 4.0, 0.9
    cpr = CPR(rate=rate, sharpness=sharpness, decay=decay, period=3)
    learner, task = build(cpr, optimizer="adam", lr=1e-3, double=True)
    plain, _ = build(optimizer="adam", lr=1e-3, double=True)
    drawn = []

    def fresh(module, generator, units=None):
        weight = torch.randn(module.weight.shape, generator=generator, dtype=torch.float64)
        drawn.append(weight.numpy())
        return {"weight": weight}

    monkeypatch.setattr("lop.algos.cpr.fresh_parameters", fresh)
    utilities = [np.ones(layer.units) for layer in plain.hidden_layers]
    for step, (x, y) in enumerate(task.batches()[:6]):
        gradients = gradients_at(plain, x, y)
        for u, key in zip(utilities, ("body.1.weight", "body.3.weight"), strict=True):
            score = np.abs(gradients[key]).mean(1)
            u *= decay
            u += (1 - decay) * score / (score.mean() + 1e-8)
        plain.learn(x, y)
        drawn.clear()
        learner.learn(x, y)
        assert len(drawn) == (2 if step % 3 == 2 else 0)
        if step % 3 == 2:
            expected = slow_cpr(plain.net, utilities, rate, sharpness, drawn)
            with torch.no_grad():
                for module in [*(layer.incoming for layer in plain.hidden_layers), plain.net.head]:
                    module.weight.copy_(torch.from_numpy(expected[id(module)]))
            for u in utilities:
                u[:] = 1
        for mine, u in zip(map(cpr.utilities, cpr.units.layers), utilities, strict=True):
            np.testing.assert_allclose(mine.numpy(), u, rtol=1e-9)
        for p, q in zip(learner.net.parameters(), plain.net.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_the_rate_is_full_at_the_layers_mean_and_below():
    rates = CPR(rate=0.015).rates(torch.tensor([0.0, 0.5, 1.0, 1.1, 1.3, 3.0], dtype=torch.float64))
    expected = 0.015 * np.array([1, 1, 1, 2 / (1 + np.exp(1.6)), 2 / (1 + np.exp(4.8)), 2 / (1 + np.exp(32))])
    np.testing.assert_allclose(rates.numpy(), expected, rtol=1e-9)


def test_cpr_hears_of_units_that_others_replaced(build):
    cpr = CPR()
    learner, task = build(cpr)
    learner.learn(*task.batches()[0])
    layer = learner.hidden_layers[0]
    mask = torch.arange(layer.units) < 3
    before = cpr.utilities(learner.hidden_layers[0]).clone()
    learner.units_replaced(layer, mask, by=Listener())
    assert torch.equal(cpr.utilities(learner.hidden_layers[0])[:3], torch.ones(3))
    assert torch.equal(cpr.utilities(learner.hidden_layers[0])[3:], before[3:])


@pytest.mark.parametrize("utility", ["gradient", "magnitude"])
@pytest.mark.parametrize("prune", ["threshold", "share"])
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_swr_draws_the_least_useful_weights_anew(utility, prune, decay, build):
    options = {"period": 3, "factor": 0.25, "utility": utility, "prune": prune, "decay": decay}
    learner, task = build(SWR(**options), optimizer="adam", lr=1e-3, double=True)
    plain, _ = build(optimizer="adam", lr=1e-3, double=True)
    averages: dict[str, np.ndarray] = {}
    drawn = 0
    for step, (x, y) in enumerate(task.batches()):
        gradients = gradients_at(plain, x, y)
        plain.learn(x, y)
        learner.learn(x, y)
        for name, p in plain.net.named_parameters():
            value = np.abs(p.detach().numpy() * (gradients[name] if utility == "gradient" else 1.0))
            averages[name] = decay * averages.get(name, 0.0) + (1 - decay) * value
            got = dict(learner.net.named_parameters())[name]
            changed = (got != p).detach().numpy()
            if step % 3 != 2:
                assert not changed.any()
                continue
            u = averages.pop(name)
            if name.endswith("bias"):  # drawn as 0, which some are already
                assert not got.detach().numpy()[changed].any()
            elif prune == "threshold":
                assert np.array_equal(changed, u <= 0.25 * u.mean())
            else:
                assert np.floor(0.25 * u.size) <= changed.sum() <= np.ceil(0.25 * u.size)
                assert u[changed].max() <= u[~changed].min()
            drawn += changed.sum() * name.endswith("weight")
            p.data.copy_(got)
        assert all(
            torch.equal(a["exp_avg"], b["exp_avg"])
            for a, b in zip(learner.optimizer.state.values(), plain.optimizer.state.values(), strict=True)
        )
    assert drawn > 0


@pytest.mark.parametrize(("reinit", "mean", "std"), [("initial", 0.0, 0.1), ("normal", 0.0, 0.1), ("mean", 0.0, 0.0)])
def test_what_swr_draws(reinit, mean, std, build):
    options = {"hidden": [200], "layer_norm": True}
    swr = SWR(period=1, factor=1.0, prune="share", reinit=reinit, reset_optimizer=True)
    learner, task = build(swr, optimizer="adam", net_options=options, lr=1e-3)
    first = {name: p.detach().clone() for name, p in learner.net.named_parameters()}
    learner.learn(*task.batches()[0])
    head = learner.net.head.weight
    assert not torch.equal(head, first["head.weight"])
    assert head.mean().item() == pytest.approx(mean, abs=0.02)
    assert head.std().item() == pytest.approx(first["head.weight"].std().item() if std else 0.0, rel=0.1)
    norm = learner.hidden_layers[0].norm
    assert torch.equal(norm.weight, torch.ones(200))
    assert torch.equal(norm.bias, torch.zeros(200))
    assert not learner.optimizer.state[head]["exp_avg"].any()
