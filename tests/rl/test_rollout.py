"""Rollouts: what the update gets, checked against a slow reconstruction with Gymnasium's own time limit."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from lop.nets import ActorCritic
from lop.nets.init import initialise_
from lop.rl.normalise import RunningScale
from lop.rl.rollout import Rollouts
from lop.rl.stream import Control
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator

SMALL = {"env": "Hopper-v5", "rollout_steps": 96, "task_steps": 96, "minibatches": 4, "epochs": 3, "time_limit": 12}


def collected(rollouts):
    """Observations and transitions."""
    observations, rollout = rollouts.collect()
    return observations, rollout.transitions


def make_rollouts(seed=0, **options):
    stream = Control(seed, None, "cpu", **{**SMALL, **options})
    net = ActorCritic(stream.input_shape, stream.num_outputs, hidden=[8])
    initialise_(net, make_generator(seed, "net"))
    return Rollouts(stream, net, seed), net


def values_of(net, observations):
    """(steps, envs, d) -> (steps, envs)."""
    flat = torch.as_tensor(observations).reshape(-1, observations.shape[-1])
    return net.value(flat).double().numpy().reshape(observations.shape[:2])


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_returns_and_advantages_follow_from_what_the_environment_gave(monkeypatch, num_envs, terminal):
    rollouts, net = make_rollouts(
        rollout_steps=192,
        task_steps=192,
        time_limit=22,
        num_envs=num_envs,
        time_limit_is_terminal=terminal,
        standardise_advantages=False,
        discount=0.9,
        gae_lambda=0.8,
    )
    pool, log, step = rollouts.pool, [], rollouts.pool.step

    def recorded(actions):
        seen = pool.observations.copy()
        step(actions)
        last = [
            pool.final_observations[i] if pool.terminated[i] or pool.truncated[i] else pool.observations[i].copy()
            for i in range(num_envs)
        ]
        log.append(
            (seen, actions.copy(), pool.rewards.copy(), np.stack(last), pool.terminated.copy(), pool.truncated.copy())
        )

    monkeypatch.setattr(pool, "step", recorded)
    observations, batch = collected(rollouts)
    seen, actions, rewards, following, terminated, truncated = (np.stack(part) for part in zip(*log, strict=True))
    assert terminated.any()
    assert truncated.any()
    np.testing.assert_array_equal(observations.numpy(), seen.reshape(192, -1))
    np.testing.assert_array_equal(batch.actions.numpy(), actions.reshape(192, -1))
    with torch.no_grad():
        policy = Independent(Normal(net.policy(observations), net.log_std.value.exp()), 1)
        torch.testing.assert_close(batch.log_probs, policy.log_prob(batch.actions))
        values, next_values = (values_of(net, x) for x in (seen, following))
    cut = terminated | (truncated & terminal)
    steps = 192 // num_envs
    for i in range(num_envs):
        following_advantage = 0.0
        for t in reversed(range(steps)):
            error = rewards[t, i] + 0.9 * next_values[t, i] * (not cut[t, i]) - values[t, i]
            if terminated[t, i] or truncated[t, i]:
                following_advantage = 0.0
            following_advantage = error + 0.9 * 0.8 * following_advantage
            row = t * num_envs + i
            assert batch.advantages[row].item() == pytest.approx(following_advantage, rel=1e-4, abs=1e-4)
            assert batch.returns[row].item() == pytest.approx(following_advantage + values[t, i], rel=1e-4, abs=1e-4)


def test_actions_are_drawn_from_the_policy():
    rollouts, net = make_rollouts(rollout_steps=2000, task_steps=2000, time_limit=5)
    torch.nn.init.constant_(net.log_std.value, -1.0)
    observations, batch = collected(rollouts)
    with torch.no_grad():
        z = (batch.actions - net.policy(observations)) / np.exp(-1)
    assert z.mean().item() == pytest.approx(0, abs=0.05)
    assert z.std().item() == pytest.approx(1, abs=0.05)


def test_every_epoch_shows_each_transition_once_in_a_fresh_order():
    rollouts, _ = make_rollouts()
    observations, batch = collected(rollouts)
    parts = list(rollouts.minibatches(observations, batch))
    assert len(parts) == 3 * 4
    assert all(len(x) == 24 and all(len(part) == 24 for part in y) for x, y in parts)
    orders = []
    for epoch in range(3):
        shown = torch.cat([y.returns for _, y in parts[4 * epoch : 4 * epoch + 4]])
        assert torch.equal(shown.sort().values, batch.returns.sort().values)
        orders.append(shown)
    assert not torch.equal(orders[0], orders[1])
    x, y = parts[5]  # rows stay together
    rows = [int((batch.returns == r).nonzero()[0, 0]) for r in y.returns]
    torch.testing.assert_close(x, observations[rows])
    torch.testing.assert_close(y.actions, batch.actions[rows])


def test_advantages_are_standardised_over_the_whole_rollout_and_returns_are_not():
    raw = collected(make_rollouts(standardise_advantages=False)[0])[1]
    batch = collected(make_rollouts()[0])[1]
    torch.testing.assert_close(batch.returns, raw.returns)
    expected = (raw.advantages - raw.advantages.mean()) / raw.advantages.std(correction=0)
    torch.testing.assert_close(batch.advantages, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalise_observations": True, "normalise_rewards": True},
        {"standardise_over": "minibatch", "target_kl": 1e-3, "clip_actions": False, "time_limit_is_terminal": True},
    ],
)
def test_a_restored_rollout_goes_on_bit_identically(options, tmp_path):
    options = {"num_envs": 2, **options}
    one, _ = make_rollouts(**options)
    list(one.collect()[1].minibatches())
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other, _ = make_rollouts(**options)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for (x, y), (u, v) in zip(one.collect()[1].minibatches(), other.collect()[1].minibatches(), strict=True):
        assert torch.equal(x, u)
        assert all(torch.equal(a, b) for a, b in zip(y, v, strict=True))


def test_advantages_are_standardised_within_each_minibatch_where_asked():
    raw = make_rollouts(standardise_advantages=False)[0]
    own = make_rollouts(standardise_over="minibatch")[0]
    pairs = zip(raw.collect()[1].minibatches(), own.collect()[1].minibatches(), strict=True)
    for (x, y), (u, v) in pairs:
        assert torch.equal(x, u)
        assert torch.equal(y.returns, v.returns)
        a = y.advantages.double()
        expected = (a - a.mean()) / a.std(correction=0)
        torch.testing.assert_close(v.advantages.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_values_of_the_rollout_travel_with_it():
    rollouts, net = make_rollouts()
    observations, batch = collected(rollouts)
    with torch.no_grad():
        torch.testing.assert_close(batch.values, net.value(observations)[:, 0])
    for x, y in rollouts.minibatches(observations, batch):
        with torch.no_grad():
            torch.testing.assert_close(y.values, net.value(x)[:, 0])


@pytest.mark.parametrize(("target", "passes"), [(None, 5), (1e9, 5), (0.3, 2), (1e-9, 1)])
def test_no_pass_begins_once_the_policy_is_too_far_from_the_one_that_acted(target, passes):
    rollouts, net = make_rollouts(epochs=5, target_kl=target)
    observations, batch = collected(rollouts)
    start, distances, steps = None, [], 0
    for step, _ in enumerate(rollouts.minibatches(observations, batch)):
        now = Independent(
            Normal(net.policy(observations).detach().double(), net.log_std.value.detach().exp().double()), 1
        )
        start = start or now
        distances.append(torch.distributions.kl_divergence(start, now).mean().item())
        with torch.no_grad():  # one minibatch step: the mean action moves by 0.1 deviations in each of 3 dimensions
            net.policy.head.bias += 0.1
        steps = step + 1
    assert steps == 4 * passes
    # KL of a shift by d deviations in each of 3 dimensions: 3 d^2 / 2; a pass moves by 0.4
    assert distances[-1] == pytest.approx(1.5 * (0.1 * (steps - 1)) ** 2, abs=1e-4)
    for epoch in range(1, passes):
        assert 1.5 * (0.4 * epoch) ** 2 <= (target or math.inf)
    assert passes == 5 or 1.5 * (0.4 * passes) ** 2 > target


def test_best_actions_are_what_the_environment_would_get():
    for clip in (True, False):
        rollouts, net = make_rollouts(clip_actions=clip)
        torch.nn.init.constant_(net.policy.head.bias, 7.0)
        torch.nn.init.zeros_(net.policy.head.weight)
        np.testing.assert_array_equal(rollouts.best_action(np.zeros(11)), [1.0 if clip else 7.0] * 3)


def test_running_scale_is_the_mean_and_variance_of_all_it_saw():
    data = np.random.default_rng(0).normal(3.0, 5.0, size=(60, 2))
    scale = RunningScale(2)
    for part in np.split(data, [1, 7, 30]):
        scale.update(part)
    np.testing.assert_allclose(scale.mean, data.mean(0))
    np.testing.assert_allclose(scale.variance, data.var(0))
    np.testing.assert_allclose(scale.normalise(data).std(0), 1, rtol=1e-5)
    # single precision is that of the data, not of their mean
    far = RunningScale(2)
    for part in np.split((data + 1e4).astype(np.float32), 6):
        far.update(part)
    np.testing.assert_allclose(far.variance, data.var(0), rtol=1e-3)
    np.testing.assert_allclose(far.mean, (data + 1e4).astype(np.float32).astype(np.float64).mean(0), rtol=1e-12)


def test_normalised_rollouts_have_rewards_of_unit_scale_and_centred_observations():
    rollouts, _ = make_rollouts(rollout_steps=960, task_steps=960, normalise_observations=True, normalise_rewards=True)
    for _ in range(2):
        observations, _ = rollouts.collect()
    assert observations.mean(0).abs().max() < 0.5
    assert 0.5 < observations.std(0).mean() < 1.5
    assert rollouts.pool.rewards[0] > 2 * rollouts._rewards[-1, 0] > 0  # Hopper: about 1 per step, returns about 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rollout_steps": 100, "minibatches": 16}, "rollout_steps must be a multiple of"),
        ({"task_steps": 10}, "task_steps must be >= rollout_steps = 96"),
        ({"discount": 1.5}, r"discount must be in \[0, 1\]"),
        ({"clip": 0.0}, "clip must be > 0"),
        ({"value_clip": 0.0}, "value_clip must be > 0"),
        ({"target_kl": -1.0}, "target_kl must be > 0"),
        ({"standardise_over": "epoch"}, "standardise_over must be one of rollout, minibatch, got 'epoch'"),
        ({"minibatches": 96, "standardise_over": "minibatch"}, "needs more than one step per minibatch"),
        ({"friction_low": 3.0}, "friction_low must be in"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Control(0, None, "cpu", **{**SMALL, **options})


def test_tasks_end_with_the_update_that_reaches_their_last_step():
    stream = Control(0, None, "cpu", **{**SMALL, "task_steps": 250, "num_tasks": 4})
    assert [stream.task(k).epochs for k in range(4)] == [3, 3, 2, 3]  # 96 steps each: 288, 576, 768, 1056
    assert stream.updates_before(4) == 11
