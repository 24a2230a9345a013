"""L2-ER: the step up the effective rank against central differences of its textbook form."""

import numpy as np
import pytest
import torch

from lop.algos.l2_er import L2ER, effective_rank
from lop.utils.seeding import make_generator


def dense_rank(matrix):
    s = np.linalg.svd(matrix, compute_uv=False)
    share = s[s > 0] / s.sum()
    return np.exp(-(share * np.log(share)).sum())


def test_effective_rank():
    x = torch.randn(9, 5, generator=make_generator(0), dtype=torch.float64)
    assert effective_rank(x).item() == pytest.approx(dense_rank(x.numpy()))
    assert effective_rank(torch.eye(6)).item() == pytest.approx(6.0)
    low = x[:, :1] @ torch.ones(1, 5, dtype=torch.float64)
    low.requires_grad_()
    rank = effective_rank(low)
    assert rank.item() == pytest.approx(1.0)
    assert torch.isfinite(torch.autograd.grad(rank, low)[0]).all()


def mean_rank(net, x):
    """Of the post-activation features, maps averaged over space."""
    features = []
    hooks = [
        layer.activation.register_forward_hook(lambda m, i, o: features.append(o.detach().numpy()))
        for layer in net.hidden_layers()
    ]
    net.eval()
    with torch.no_grad():
        net(x)
    net.train()
    for hook in hooks:
        hook.remove()
    flat = [f.mean(tuple(range(2, f.ndim))) if f.ndim > 2 else f for f in features]
    return np.mean([dense_rank(f) for f in flat])


@pytest.mark.parametrize("net", ["mlp", "convnet", "resnet18", "actor_critic"])
def test_every_few_batches_one_plain_step_up(net, build):
    rate, options = 0.01, {"activation": "tanh"}
    method = L2ER(weight=0.0, er_lr=rate, er_batch=3)
    learner, task = build(method, net=net, optimizer="adam", lr=1e-3, double=True, net_options=options)
    plain, _ = build(net=net, optimizer="adam", lr=1e-3, double=True, net_options=options)
    batches = task.batches()[:3]
    for i, (x, y) in enumerate(batches):
        learner.learn(x, y)
        plain.learn(x, y)
        if i < 2:
            for p, q in zip(learner.net.parameters(), plain.net.parameters(), strict=True):
                assert torch.equal(p, q)
    together = torch.cat([x for x, _ in batches])
    for (name, p), q in zip(learner.net.named_parameters(), plain.net.parameters(), strict=True):
        moved = ((p - q) / rate).detach().flatten().numpy()
        flat = q.data.view(-1)
        for place in np.linspace(0, flat.numel() - 1, 3).astype(int):
            kept = flat[place].item()
            values = []
            for step in (1e-5, -1e-5):
                flat[place] = kept + step
                values.append(mean_rank(plain.net, together))
            flat[place] = kept
            assert moved[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=2e-5), name
    assert learner.net.training
    for (name, b), c in zip(learner.net.named_buffers(), plain.net.buffers(), strict=True):
        assert torch.equal(b, c), name
    for p, q in zip(learner.net.parameters(), plain.net.parameters(), strict=True):
        if q in plain.optimizer.state:
            assert torch.equal(learner.optimizer.state[p]["exp_avg"], plain.optimizer.state[q]["exp_avg"])


def test_the_decay_is_in_the_loss(build):
    method = L2ER(weight=0.3)
    learner, _ = build(method, double=True)
    expected = 0.5 * 0.3 * sum((p.detach().numpy() ** 2).sum() for p in learner.net.parameters())
    assert method.penalty().item() == pytest.approx(expected)


def test_a_diverged_net_goes_on(build):
    learner, task = build(L2ER(er_batch=1))
    learner.net.head.weight.data.fill_(float("nan"))
    learner.hidden_layers[0].incoming.weight.data.fill_(float("nan"))
    learner.learn(*task.batches()[0])
    assert learner.net.head.weight.isnan().all()
