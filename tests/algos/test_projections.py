"""Weight clipping, normalise and project, FIRE and DASH against slow float64 forms of their rules."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from lop.algos.dash import DASH
from lop.algos.fire import FIRE, orthogonalised
from lop.algos.nap import NaP
from lop.algos.weight_clipping import WeightClipping
from lop.rl.ppo import PPOLearner
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator

NETS = ["mlp", "convnet", "resnet18", "actor_critic"]
LAYERS = nn.Linear | nn.Conv2d


def layers(net):
    heads = [net.value.head, net.policy.head] if hasattr(net, "policy") else [net.head]
    return [(m, any(m is head for head in heads)) for m in net.modules() if isinstance(m, LAYERS)]


def snapshot(net):
    return {name: p.detach().clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("last", [True, False])
def test_weights_and_biases_are_clipped_by_their_layers_fan_in(net, last, build):
    learner, task = build(WeightClipping(kappa=0.3, clip_last_layer=last), net=net, lr=0.5)
    plain, _ = build(net=net, lr=0.5)
    for x, y in task.batches()[:2]:
        for p, q in zip(plain.net.parameters(), learner.net.parameters(), strict=True):
            p.data.copy_(q)
        learner.learn(x, y)
        plain.learn(x, y)
        clipped = 0
        for (m, is_head), (free, _) in zip(layers(learner.net), layers(plain.net), strict=True):
            fan_in = np.prod(m.weight.shape[1:])
            bound = 0.3 / math.sqrt(fan_in) if last or not is_head else math.inf
            for p, q in zip(m.parameters(), free.parameters(), strict=True):
                expected = np.clip(q.detach().numpy(), -bound, bound)
                clipped += (expected != q.detach().numpy()).sum()
                np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-6)
        assert clipped > 0
    for m, n in zip(learner.net.modules(), plain.net.modules(), strict=True):
        if isinstance(m, nn.BatchNorm2d):
            assert torch.equal(m.weight, n.weight)


@pytest.mark.parametrize(("net", "options"), [("mlp", {"layer_norm": True}), ("convnet", {"layer_norm": True})])
@pytest.mark.parametrize("parameters", ["joint", "free"])
def test_each_hidden_weight_keeps_its_norm_and_its_direction(net, options, parameters, build):
    learner, task = build(NaP(norm_parameters=parameters), net=net, net_options=options, lr=0.5, double=True)
    plain, _ = build(net=net, net_options=options, lr=0.5, double=True)
    first = snapshot(learner.net)
    for x, y in task.batches()[:3]:
        plain.net.load_state_dict(learner.net.state_dict())
        learner.learn(x, y)
        plain.learn(x, y)
        got, free = snapshot(learner.net), snapshot(plain.net)
        norms = {id(layer.norm) for layer in learner.hidden_layers}
        for name, module in learner.net.named_modules():
            if id(module) in norms and parameters == "joint":
                both = [f"{name}.weight", f"{name}.bias"]
                length = lambda at, both=both: math.sqrt(sum((at[k].numpy() ** 2).sum() for k in both))  # noqa: E731
                for key in both:
                    torch.testing.assert_close(got[key], free[key] * length(first) / length(free))
            elif isinstance(module, LAYERS) and module is not learner.net.head:
                key = f"{name}.weight"
                scale = np.linalg.norm(first[key].numpy()) / np.linalg.norm(free[key].numpy())
                assert scale != 1
                torch.testing.assert_close(got[key], free[key] * scale)
                torch.testing.assert_close(got[f"{name}.bias"], free[f"{name}.bias"])
        assert torch.equal(got["head.weight"], free["head.weight"])


def test_projected_once_in_a_while_and_anew_after_a_restart(build):
    learner, task = build(NaP(interval=3), net_options={"layer_norm": True}, lr=0.5)
    weight = learner.hidden_layers[0].incoming.weight
    first = weight.norm().item()
    lengths = []
    for x, y in task.batches()[:3]:
        learner.learn(x, y)
        lengths.append(weight.norm().item())
    assert abs(lengths[0] - first) > 1e-3
    assert abs(lengths[1] - first) > 1e-3
    assert lengths[2] == pytest.approx(first)
    learner.restart(make_generator(5))
    second = weight.norm().item()
    for x, y in task.batches()[:3]:
        learner.learn(x, y)
    assert weight.norm().item() == pytest.approx(second)
    assert second != pytest.approx(first)


def test_a_net_without_norms_is_told(build):
    with pytest.warns(UserWarning, match=r"nap: no norm .* hidden0, hidden1: set net.layer_norm"):
        build(NaP())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(NaP(), net="resnet18")


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (7, 7)])
def test_the_nearest_orthogonal_matrix_is_that_of_the_svd(shape):
    w = torch.randn(4, *shape, generator=make_generator(0), dtype=torch.float64)
    u, _, vh = np.linalg.svd(w.numpy(), full_matrices=False)
    np.testing.assert_allclose(orthogonalised(w, 60).numpy(), u @ vh, atol=1e-9)
    s = np.linalg.svd(w.numpy(), compute_uv=False) / np.linalg.norm(w.numpy(), axis=(1, 2))[:, None]
    for _ in range(10):
        s = 1.5 * s - 0.5 * s**3
    np.testing.assert_allclose(orthogonalised(w, 10).numpy(), (u * s[:, None, :]) @ vh, atol=1e-12)
    assert torch.equal(orthogonalised(torch.zeros(2, 3), 10), torch.zeros(2, 3))


@pytest.mark.parametrize("net", NETS)
def test_fire_at_a_tasks_end(net, build):
    fire = FIRE(iterations=80)
    learner, task = build(fire, net=net, double=True)
    learner.learn(*task.batches()[0])
    before, modules = snapshot(learner.net), dict(learner.net.named_modules())
    learner.end_task(task)
    for name, p in learner.net.named_parameters():
        owner, _, kind = name.rpartition(".")
        if kind != "weight" or not isinstance(modules[owner], LAYERS):
            assert torch.equal(p, before[name])
            continue
        w, got = before[name].numpy(), p.detach().numpy()
        kernel = w.reshape(*w.shape[:2], -1)
        for i in range(kernel.shape[2]):
            u, _, vh = np.linalg.svd(kernel[:, :, i], full_matrices=False)
            expected = (u @ vh) * math.sqrt(w.shape[0] / w.shape[1]) / kernel.shape[2]
            np.testing.assert_allclose(got.reshape(kernel.shape)[:, :, i], expected, atol=1e-7)


def slow_dash(learner, batches, alpha, floor):
    """Row by row, in NumPy, over all the batches."""
    parameters = {id(p): p for m, _ in layers(learner.net) for p in m.parameters()}
    average = {key: np.zeros(p.shape) for key, p in parameters.items()}
    for x, y in batches:
        loss = nn.functional.cross_entropy(learner.net(x), y)
        for (key, p), g in zip(parameters.items(), torch.autograd.grad(loss, list(parameters.values())), strict=True):
            average[key] = (1 - alpha) * average[key] + alpha * -g.numpy()
            assert p.shape == g.shape
    found = {}
    for key, p in parameters.items():
        w = p.detach().numpy().copy()
        places = {1: [()], 2: [(o,) for o in range(len(w))]}.get(w.ndim) or list(np.ndindex(w.shape[:2]))
        for place in places:
            a, b = w[place].ravel(), average[key][place].ravel()
            lengths = [max(np.linalg.norm(v), 1e-8) for v in (a, b)]
            w[place] *= np.clip(a @ b / np.prod(lengths), floor, 1.0)
        found[key] = w
    return found


@pytest.mark.parametrize("net", NETS)
def test_dash_shrinks_by_the_cosine_with_what_the_new_data_want(net, build):
    alpha, floor = 0.4, 0.2
    learner, task = build(DASH(alpha=alpha, floor=floor), net=net, double=True)
    task.batch_size = 1  # 48 batches, of which the last 41 count
    first = snapshot(learner.net)
    learner.start_task(task)
    assert all(torch.equal(p, first[name]) for name, p in learner.net.named_parameters())  # the first task
    with torch.no_grad():
        for p in learner.net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=make_generator(3), dtype=p.dtype))
    if net == "resnet18":  # a batch of one has no variance in the last maps
        task.batch_size = 4
    buffers = {name: b.clone() for name, b in learner.net.named_buffers()}
    before = snapshot(learner.net)
    expected = slow_dash(learner, task.batches(), alpha, floor)
    for name, b in learner.net.named_buffers():
        b.copy_(buffers[name])
    learner.start_task(task)
    assert learner.net.training
    assert all(torch.equal(b, buffers[name]) for name, b in learner.net.named_buffers())
    factors = []
    for name, p in learner.net.named_parameters():
        if id(p) in expected:
            np.testing.assert_allclose(p.detach().numpy(), expected[id(p)], rtol=1e-6, atol=1e-9)
            factors.append((p / before[name]).detach().flatten())
        else:
            assert torch.equal(p, before[name])
    factors = torch.cat(factors)
    assert ((factors > floor + 1e-3) & (factors < 1 - 1e-3)).any()  # neither all at the floor nor all kept


def test_dash_needs_data_that_are_there_before(build):
    learner, _ = build(net="actor_critic")
    with pytest.raises(UserError, match="dash: needs a task's data"):
        PPOLearner(learner.net, learner.optimizer, [DASH()])
