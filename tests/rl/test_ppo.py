"""PPO's pieces against hand-computed numbers, torch.distributions and textbook formulas."""

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from lop.algos import INTERVENTIONS
from lop.algos.ewc import EWC, fisher_diagonal
from lop.nets import ActorCritic
from lop.nets.init import fresh_parameters, initialise_
from lop.nets.policies import gaussian_kl, gaussian_log_prob
from lop.optimizers import get_optimizer
from lop.rl.gae import advantages
from lop.rl.ppo import Minibatch, PPOLearner, policy_loss, value_loss
from lop.rl.rollout import standardise
from lop.utils.seeding import make_generator


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def test_advantages_of_a_hand_computed_trajectory():
    # discount 0.5, lambda 0.5. Steps 0, 1: an episode that ends in a terminal state. Steps 2, 3: one that the time
    # limit cuts, with last observation of value 8. Step 4: goes on, the next observation is worth 2.
    rewards = column(1, 2, 3, 4, 5)
    values = column(10, 20, 30, 40, 50)
    next_values = column(20, 0, 40, 8, 2)
    ended = column(0, 1, 0, 1, 0).astype(bool)
    # errors: 1+10-10 = 1; 2+0-20 = -18; 3+20-30 = -7; 4+4-40 = -32; 5+1-50 = -44
    # sums (factor 0.25): 1 - 18/4 = -3.5; -18; -7 - 32/4 = -15; -32; -44
    found = advantages(rewards, values, next_values, ended, 0.5, 0.5)
    np.testing.assert_allclose(found, column(-3.5, -18, -15, -32, -44))


def test_lambda_one_gives_discounted_returns_and_lambda_zero_one_step_errors():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(6, 2)), rng.normal(size=(7, 2))
    ended = np.zeros((6, 2), dtype=bool)
    monte_carlo = advantages(rewards, values[:-1], values[1:], ended, 0.9, 1.0) + values[:-1]
    for t in range(6):
        expected = sum(0.9 ** (i - t) * rewards[i] for i in range(t, 6)) + 0.9 ** (6 - t) * values[6]
        np.testing.assert_allclose(monte_carlo[t], expected)
    one_step = advantages(rewards, values[:-1], values[1:], ended, 0.9, 0.0)
    np.testing.assert_allclose(one_step, rewards + 0.9 * values[1:] - values[:-1])


def test_log_prob_and_kl_are_those_of_torch_distributions():
    generator = make_generator(0, "test")
    mean, other, actions = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
    log_std, other_std = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    p = Independent(Normal(mean, log_std.exp()), 1)
    q = Independent(Normal(other, other_std.exp()), 1)
    torch.testing.assert_close(gaussian_log_prob(actions, mean, log_std), p.log_prob(actions))
    torch.testing.assert_close(gaussian_kl(mean, log_std, other, other_std), kl_divergence(p, q).mean())


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.1, 2.0, -2.2, -2.2),  # inside: the ratio counts, d/dlog p = -ratio * A
        (1.5, 2.0, -2.4, 0.0),  # above, good action: cut at 1.2, nothing more to gain
        (1.5, -2.0, 3.0, 3.0),  # above, bad action: the whole ratio, so that it is corrected
        (0.5, 2.0, -1.0, -1.0),  # below, good action: the same
        (0.5, -2.0, 1.6, 0.0),  # below, bad action: cut at 0.8
    ],
)
def test_the_clip(ratio, advantage, loss, gradient):
    log_prob = torch.tensor([float(np.log(ratio))], dtype=torch.float64, requires_grad=True)
    found = policy_loss(log_prob, torch.zeros(1, dtype=torch.float64), torch.tensor([advantage]).double(), 0.2)
    found.backward()
    assert found.item() == pytest.approx(loss)
    assert log_prob.grad.item() == pytest.approx(gradient)


def test_standardised_advantages_have_mean_zero_and_unit_variance_and_keep_their_order():
    values = np.random.default_rng(0).gamma(2.0, 30.0, size=(64, 4))
    found = standardise(values)
    assert found.mean() == pytest.approx(0, abs=1e-12)
    assert found.std() == pytest.approx(1)
    np.testing.assert_array_equal(np.argsort(found, axis=None), np.argsort(values, axis=None))


def tiny_net(seed=0, **options) -> ActorCritic:
    net = ActorCritic((5,), 3, hidden=[8, 6], **options)
    initialise_(net, make_generator(seed, "net"))
    return net


def tiny_batch(n=16):
    generator = make_generator(1, "test")
    x = torch.randn(n, 5, generator=generator)
    actions = torch.randn(n, 3, generator=generator)
    rest = torch.randn(4, n, generator=generator)
    return x, Minibatch(actions, rest[0] - 4, rest[1], rest[2], rest[3])


def test_the_loss_is_the_papers():
    net, (x, batch) = tiny_net(log_std=-0.3), tiny_batch()
    learner = PPOLearner(net, get_optimizer("sgd", net, lr=0.0), clip=0.15, value_weight=0.7, entropy_weight=0.2)
    loss = learner.learn_minibatch(x, batch).loss
    policy = Independent(Normal(net.policy(x), net.log_std.value.exp()), 1)
    ratio = (policy.log_prob(batch.actions) - batch.log_probs).exp()
    cut = torch.where(ratio > 1.15, 1.15, torch.where(ratio < 0.85, 0.85, ratio))
    surrogate = torch.stack((ratio * batch.advantages, cut * batch.advantages)).amin(0).mean()
    value_error = ((net.value(x)[:, 0] - batch.returns) ** 2).mean()
    constant = 1.5 * np.log(2 * np.pi * np.e)  # of the entropy, which has no gradient and is left out
    expected = -surrogate + 0.7 * value_error - 0.2 * (policy.entropy().mean() - constant)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "expected", "gradient"),
    [
        (1.1, 0.81, -1.8),  # near the old value 1: the error (1.1 - 2)^2 counts
        (1.7, 0.64, 0.0),  # further than 0.2 towards the return 2: as at 1.2, nothing more to gain
        (0.5, 2.25, -3.0),  # further away from it: the whole error, so that it is corrected
        (3.5, 2.25, 3.0),  # past the return: the whole error where it is the larger one
    ],
)
def test_the_clip_of_the_values(value, expected, gradient):
    old, target = torch.ones(1, dtype=torch.float64), torch.full((1,), 2.0, dtype=torch.float64)
    values = torch.full((1,), value, dtype=torch.float64, requires_grad=True)
    loss = value_loss(values, target, old, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    assert values.grad.item() == pytest.approx(gradient)


def test_the_learners_value_loss_is_the_clipped_one():
    net, (x, batch) = tiny_net(), tiny_batch()
    optimizer = get_optimizer("sgd", net, lr=0.0)
    with torch.no_grad():
        v, old, target = net.value(x)[:, 0].double(), batch.values.double(), batch.returns.double()
    far = old + (v - old).sign() * torch.minimum((v - old).abs(), torch.tensor(0.3))
    clipped = torch.stack(((v - target) ** 2, (far - target) ** 2)).amax(0).mean()
    plain, limited = (
        PPOLearner(net, optimizer, value_clip=clip, value_weight=3.0).learn_minibatch(x, batch).loss.item()
        for clip in (None, 0.3)
    )
    assert limited - plain == pytest.approx(3 * (clipped - ((v - target) ** 2).mean()).item(), rel=1e-4)
    assert limited > plain


def test_orthogonal_nets_have_orthonormal_rows_or_columns_times_the_gains():
    net = ActorCritic((17,), 6, hidden=[32, 24], init="orthogonal")
    initialise_(net, make_generator(0, "net"))
    for half, head_gain in ((net.policy, 0.01), (net.value, 1.0)):
        first, second = (layer.incoming for layer in half.hidden_layers())
        for layer, gain in ((first, 2**0.5), (second, 2**0.5), (half.head, head_gain)):
            w = layer.weight.detach().double()
            gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
            torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram), dtype=torch.float64), atol=1e-5, rtol=1e-5)
            assert torch.count_nonzero(layer.bias) == 0
    again = ActorCritic((17,), 6, hidden=[32, 24], init="orthogonal")
    initialise_(again, make_generator(0, "net"))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))


def test_units_drawn_anew_for_an_orthogonal_layer_are_as_those_of_a_new_layer():
    net = ActorCritic((8,), 2, hidden=[32], init="orthogonal")
    layer, generator = net.policy.hidden_layers()[0].incoming, make_generator(0, "units")
    rows = torch.stack([fresh_parameters(layer, generator, units=2)["weight"] for _ in range(400)])
    assert rows.shape == (400, 2, 8)
    # columns of length sqrt(2) over 32 rows: a row has squared length 2 * 8 / 32 in the mean
    assert rows.square().sum(2).mean().item() == pytest.approx(0.5, rel=0.05)
    assert rows.mean().item() == pytest.approx(0, abs=0.02)


def test_the_net_starts_as_published_and_its_halves_share_nothing():
    net = ActorCritic((17,), 6)
    initialise_(net, make_generator(0, "net"))
    assert torch.equal(net.log_std.value, torch.zeros(6))
    bound = (3 / 256) ** 0.5  # LeCun-uniform: variance 1/fan_in
    weight = net.policy.body[3].weight
    assert 0.98 * bound < weight.abs().max() <= bound
    assert all(torch.count_nonzero(p) == 0 for name, p in net.named_parameters() if name.endswith("bias"))
    x = torch.randn(4, 17, generator=make_generator(0, "x"))
    mean, value = net.split(net(x))
    assert mean.shape == (4, 6)
    assert value.shape == (4,)
    policy_only = torch.autograd.grad(mean.sum(), list(net.value.parameters()), allow_unused=True)
    assert all(g is None or torch.count_nonzero(g) == 0 for g in policy_only)


def test_hidden_layers_name_both_halves_with_their_own_readers():
    net = tiny_net()
    layers = {layer.name: layer for layer in net.hidden_layers()}
    assert list(layers) == ["value0", "value1", "policy0", "policy1"]
    assert layers["policy1"].outgoing == (net.policy.head,)
    assert layers["value1"].outgoing == (net.value.head,)
    assert net.output_layers() == [net.value.head, net.policy.head]


SETTINGS = {
    "cbp": {"replacement_rate": 0.2, "maturity_threshold": 2},
    "redo": {"period": 3, "threshold": 0.8},
    "sdp": {"interval": 3},
    "gosc": {"interval": 3},
    "l2": {"weight": 1e-3},
}


@pytest.mark.parametrize("optimizer", ["adam", "sassha"])
@pytest.mark.parametrize("algo", ["cbp", "redo", "snr", "l2", "l2_init", "sdp", "gosc", "shrink_and_perturb", "ema"])
def test_interventions_work_on_policy_and_value_nets(algo, optimizer):
    net, (x, batch) = tiny_net(), tiny_batch()
    intervention = INTERVENTIONS[algo](**SETTINGS.get(algo, {}))
    learner = PPOLearner(net, get_optimizer(optimizer, net, lr=1e-3), [intervention], seed=2)
    for _ in range(7):
        learner.learn_minibatch(x, batch)
    plain_net = tiny_net()
    plain = PPOLearner(plain_net, get_optimizer(optimizer, plain_net, lr=1e-3), seed=2)
    for _ in range(7):
        plain.learn_minibatch(x, batch)
    changed = [n for (n, p), q in zip(net.named_parameters(), plain_net.parameters(), strict=True) if not p.equal(q)]
    assert all(p.isfinite().all() for p in net.parameters())
    if algo in ("cbp", "redo", "sdp", "gosc", "l2"):
        # both halves are reached
        assert any(name.startswith("policy") for name in changed)
        assert any(name.startswith("value") for name in changed)


def test_fisher_of_the_policy_and_the_values():
    """Row by row, with the standard deviations of the actions, which are no output of the net."""
    net, (x, batch) = tiny_net(), tiny_batch()
    learner = PPOLearner(net, get_optimizer("adam", net, lr=1e-3), seed=2)
    found = fisher_diagonal(learner, x, batch)
    expected = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for i in range(len(x)):
        row = slice(i, i + 1)
        loss = learner.ppo_loss(net(x[row]), Minibatch(*(t[row] for t in batch)))
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        for value, g in zip(expected.values(), gradients, strict=True):
            value += g**2 / len(x)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-8)
    assert any("log_std" in name and value.any() for name, value in found.items())


def test_ewc_anchors_policy_and_values():
    net, (x, batch) = tiny_net(), tiny_batch()
    ewc = EWC(weight=10.0)
    learner = PPOLearner(net, get_optimizer("adam", net, lr=1e-3), [ewc], seed=2)
    learner.learn_minibatch(x, batch)
    learner.end_task(None)
    assert ewc.penalty() == 0
    learner.learn_minibatch(x, batch)
    assert ewc.penalty() > 0


def test_spectral_interventions_leave_both_heads_alone():
    net = tiny_net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    sdp = INTERVENTIONS["sdp"]()
    PPOLearner(net, get_optimizer("adam", net, lr=1e-3), [sdp])
    assert len(sdp.act()) == 4
    for name, p in net.named_parameters():
        hidden_weight = "body" in name and name.endswith("weight")
        assert torch.equal(p, before[name]) is not hidden_weight
