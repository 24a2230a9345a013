# ruff: noqa: E402
"""Discrete actions: the categorical policy, worlds that change with the task, and going on across a change."""

import copy
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import kl_divergence

gymnasium = pytest.importorskip("gymnasium")

from lop.algos import INTERVENTIONS
from lop.envs.discrete import DiscretePool
from lop.envs.minatar import GAMES
from lop.nets import NETS
from lop.nets.init import initialise_
from lop.nets.policies import Categorical
from lop.notebook.film import film
from lop.optimizers import get_optimizer
from lop.plan import make_config
from lop.rl.discrete import DiscreteControl
from lop.rl.ppo import Minibatch, PPOLearner
from lop.runner import run
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator
from lop.viz.generalisation import gap_to

CONFIGS = Path(__file__).parents[2] / "lop-src" / "lop" / "rl" / "cfg"
SMALL = {"num_tasks": 3, "task_steps": 96, "rollout_steps": 96, "epochs": 1, "minibatches": 2}


def needs(env: str) -> None:
    pytest.importorskip("Box2D" if "Lunar" in env else "minatar" if env.startswith("lop/") else "gymnasium")


def test_the_categorical_policy_by_hand_and_beside_torchs():
    policy = Categorical.of_logits(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]) + 7)
    torch.testing.assert_close(policy.log_prob(torch.tensor([1, 0])).exp(), torch.tensor([0.75, 0.5]))
    by_hand = (-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) + math.log(2)) / 2
    assert policy.entropy().item() == pytest.approx(by_hand)
    logits, others = torch.randn(2, 5, 4, dtype=torch.float64, generator=make_generator(0, "test"))
    actions = torch.tensor([0, 3, 1, 2, 3])
    p, q = TorchCategorical(logits=logits), TorchCategorical(logits=others)
    own = Categorical.of_logits(logits)
    torch.testing.assert_close(own.log_prob(actions), p.log_prob(actions))
    torch.testing.assert_close(own.entropy(), p.entropy().mean())
    torch.testing.assert_close(own.kl(Categorical.of_logits(others)), kl_divergence(p, q).mean())


def test_the_loss_with_discrete_actions_is_the_papers():
    net = NETS["discrete_actor_critic"]((5,), 3, hidden=[6], init="kaiming_uniform")
    initialise_(net, make_generator(0, "net"))
    generator = make_generator(1, "test")
    x, rest = torch.randn(16, 5, generator=generator), torch.randn(4, 16, generator=generator)
    batch = Minibatch(torch.arange(16) % 3, rest[0] - 1, rest[1], rest[2], rest[3])
    learner = PPOLearner(net, get_optimizer("sgd", net, lr=0.0), clip=0.15, value_weight=0.7, entropy_weight=0.2)
    loss = learner.learn_minibatch(x, batch).loss
    policy = TorchCategorical(logits=net.policy(x))
    ratio = (policy.log_prob(batch.actions) - batch.log_probs).exp()
    surrogate = torch.min(ratio * batch.advantages, ratio.clamp(0.85, 1.15) * batch.advantages).mean()
    value_error = ((net.value(x)[:, 0] - batch.returns) ** 2).mean()
    expected = -surrogate + 0.7 * value_error - 0.2 * policy.entropy().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def make_stream(seed=0, hidden=(8,), **options):
    stream = DiscreteControl(seed, None, "cpu", **{**SMALL, **options})
    kind = "conv_actor_critic" if len(stream.input_shape) == 3 else "discrete_actor_critic"
    net = NETS[kind](stream.input_shape, stream.num_outputs, hidden=list(hidden))
    initialise_(net, make_generator(seed, "net"))
    stream.follow(net)
    return stream, net


def test_actions_are_drawn_from_the_policy_and_their_probabilities_kept():
    stream, net = make_stream(rollout_steps=4000, task_steps=4000, num_envs=2)
    with torch.no_grad():
        net.policy.head.weight.zero_()
        net.policy.head.bias.copy_(torch.tensor([0.0, math.log(3)]))
    _, rollout = stream.rollout(0)
    actions = rollout.transitions.actions
    assert actions.dtype == torch.int64
    assert actions.double().mean().item() == pytest.approx(0.75, abs=4 * math.sqrt(0.1875 / 4000))
    expected = torch.where(actions == 1, math.log(0.75), math.log(0.25))
    torch.testing.assert_close(rollout.transitions.log_probs, expected.float())


@pytest.mark.parametrize("shift", ["offset", "permutation"])
def test_the_shift_holds_within_a_task_changes_with_it_and_leaves_the_rest(shift):
    stream, _ = make_stream(shift=shift, seed=3)
    x = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    changes = []
    for k in (0, 0, 1, 1, 2, 2):  # two rollouts of each task
        stream.rollout(k)
        own = stream.pool.envs[0].unwrapped.state.astype(np.float32)
        expected = own if k == 0 else stream.change(k)(own)
        np.testing.assert_array_equal(stream.pool.observations[0], expected)
        changes.append(x if k == 0 else stream.change(k)(x))
        assert stream.num_outputs == stream.pool.num_actions == 2
    assert [np.array_equal(a, b) for a, b in pairwise(changes)] == [True, False] * 2 + [True]
    if shift == "permutation":
        assert all(sorted(seen) == sorted(x) for seen in changes)
    again, other = make_stream(shift=shift, seed=3)[0], make_stream(shift=shift, seed=4)[0]
    np.testing.assert_array_equal(again.change(2)(x), stream.change(2)(x))
    assert not np.array_equal(other.change(2)(x), stream.change(2)(x))


def test_offsets_have_the_published_distribution():
    stream, _ = make_stream()
    zero = np.zeros(4, np.float32)
    drawn = np.concatenate([stream.change(k)(zero) for k in range(1, 200)])
    assert drawn.mean() == pytest.approx(0, abs=4 * 2 / math.sqrt(len(drawn)))
    assert drawn.std() == pytest.approx(2, rel=0.1)
    assert stream.change(0) is None


def test_a_chain_plays_its_games_one_after_the_other_in_one_shape():
    needs("lop/Seaquest-v0")
    names = ["lop/SpaceInvaders-v0", "lop/Seaquest-v0"]
    stream, _ = make_stream(env=names, shift="none", channels=10, num_envs=2, rollout_steps=8, task_steps=8)
    assert (stream.input_shape, stream.num_outputs) == ((10, 10, 10), 6)
    played = []
    for k in range(3):
        observations, _ = stream.rollout(k)
        assert observations.shape == (8, 10, 10, 10)
        played.append(stream.pool.env_id)
        if k == 0:  # six channels of its own, the cannon in the first, in the last row
            assert observations[:, 6:].abs().sum() == 0
            assert (observations[:, 0].sum((1, 2)) == 1).all()
            assert observations[:, 0, 9].sum() == 8
    assert played == [*names, names[0]]


@pytest.mark.parametrize("env", ["CartPole-v1", "Acrobot-v1", "LunarLander-v3", *(f"lop/{game}-v0" for game in GAMES)])
def test_a_restored_pool_goes_on_bit_identically(env):
    needs(env)

    def play(pool, steps):
        rng, seen = np.random.default_rng(steps), []
        for _ in range(steps):
            pool.step(rng.integers(0, pool.num_actions, 2))
            seen += [pool.observations.copy(), pool.rewards.copy(), pool.terminated.copy()]
        return seen

    one, other = (DiscretePool(env, 2, seed=1, time_limit=50) for _ in range(2))
    play(one, 37)
    state = copy.deepcopy(one.state_dict())
    play(other, 5)
    other.load_state_dict(state)
    for a, b in zip(play(one, 70), play(other, 70), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.take_finished() == other.take_finished() != []
    state["observations"] += 1
    with pytest.raises(UserError, match=f"^env: {env}: the same actions lead elsewhere"):
        other.load_state_dict(state)


def config(tmp_path, benchmark="rl_cartpole", path=None, **more):
    small = {f"benchmark.{name}": value for name, value in SMALL.items()}
    small |= {"net.hidden": [6], "metrics.reference_size": 8, "metrics.ntk_size": 4, "run.device": "cpu"}
    return make_config(path, benchmark=benchmark, overrides={**small, "run.results_dir": str(tmp_path), **more})


def test_stopping_at_any_update_changes_nothing_across_the_changes(tmp_path, monkeypatch):
    settings = {"benchmark.task_steps": 192, "benchmark.time_limit": 30, "benchmark.num_envs": 2}
    whole, looks = run(config(tmp_path / "whole", **settings), summaries=False), [0]

    def stop_every_second_look(self):
        looks[0] += 1
        self.reason = "test" if looks[0] % 2 == 0 else None
        return self.reason is not None

    monkeypatch.setattr("lop.training.stopping.StopRequest.due", stop_every_second_look)
    stops = 0
    while (parts := run(config(tmp_path / "parts", **settings), summaries=False)).status != "finished":
        stops += 1
    assert stops >= 3
    pd.testing.assert_frame_equal(whole.tasks.drop(columns="run"), parts.tasks.drop(columns="run"))
    assert (whole.folder / "online.csv").read_bytes() == (parts.folder / "online.csv").read_bytes()
    assert whole.tasks["online_return"].between(8, 30).all()  # a reward of 1 per step
    assert whole.tasks["policy_entropy"].between(0, math.log(2) + 1e-6).all()
    assert (whole.tasks["policy_kl"] > 0).all()


@pytest.mark.parametrize("folder", ["cartpole", "acrobot", "lunar_lander", "minatar"])
def test_every_config_meets_its_folders_benchmark_and_net_at_the_published_values(folder):
    needs({"lunar_lander": "Lunar", "minatar": "lop/"}.get(folder, ""))
    paths = sorted((CONFIGS / folder).glob("*.yml"))
    assert [path.stem for path in paths] == ["adahessian", "adam", "cbp", "l2_init", "redo", "sassha", "scratch"]
    configs = [make_config(path) for path in paths]
    for one in configs:
        assert one.benchmark.name == f"rl_{folder}"
        assert (one.benchmark, one.net) == (configs[0].benchmark, configs[0].net)
    o, net = configs[1].benchmark.options, configs[1].net.options
    assert (o["discount"], o["gae_lambda"], o["clip"], net["init"]) == (0.99, 0.95, 0.2, "orthogonal")
    if folder != "minatar":
        assert (o["num_tasks"], o["task_steps"], o["rollout_steps"], o["time_limit"]) == (10, 200 * 800, 800, 400)
        assert (o["epochs"], o["rollout_steps"] / o["minibatches"], o["entropy_weight"]) == (5, 32, 0.01)
        assert (o["reward_scale"], o["shift"], o["shift_scale"], net["hidden"]) == (20, "offset", 2, [128] * 3)
    else:
        assert (o["env"][0], o["num_tasks"], o["task_steps"]) == ("lop/SpaceInvaders-v0", 3, 2_000_000)


@pytest.mark.parametrize("method", ["adahessian", "cbp", "l2_init", "redo", "sassha", "scratch"])
def test_the_methods_run_in_a_small_form(method, tmp_path):
    path = CONFIGS / "cartpole" / f"{method}.yml"
    result = run(config(tmp_path, None, path, **{"benchmark.num_tasks": 2}), summaries=False)
    assert result.status == "finished"
    assert result.tasks["diverged_step"].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "Pendulum-v1"}, r"^env: Pendulum-v1 has actions Box.*; choose one whose action is one of n"),
        ({"env": "CartPol-v1"}, r"^env: unknown environment 'CartPol-v1'; did you mean 'CartPole"),
        ({"env": "Taxi-v4"}, r"^env: Taxi-v4 has observations Discrete\(500\); they must be vectors or images"),
        ({"env": []}, r"^env must name an environment, got \[\]"),
        (
            {"env": ["CartPole-v1", "Acrobot-v1"]},
            r"^env: Acrobot-v1 has observations \(6,\) and 3 actions, CartPole-v1",
        ),
        ({"env": "lop/Seaquest-v0"}, "^shift is for observations that are vectors, lop/Seaquest-v0 has images"),
        ({"env": "lop/Seaquest-v0", "channels": 4}, "^channels must be >= the 10 of lop/Seaquest-v0, got 4"),
        ({"shift": "noise"}, "^shift must be"),
        ({"shift_scale": -1.0}, "^shift_scale must be >= 0"),
        ({"reward_scale": 0.0}, "^reward_scale must be > 0"),
        ({"minibatches": 7}, "^rollout_steps must be a multiple of num_envs = 1 and minibatches = 7, got 96"),
    ],
)
def test_what_cannot_be_played_is_one_line(options, message):
    needs(str(options.get("env", "")))
    with pytest.raises(UserError, match=message) as caught:
        DiscreteControl(0, None, "cpu", **{**SMALL, **options})
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", None)
    with pytest.raises(UserError, match=r'need the package minatar: pip install "lop\[minatar\]"$'):
        DiscretePool("lop/Breakout-v0", 1, seed=0)


def test_a_net_for_other_actions_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'actor_critic' does not fit rl_cartpole; choose .*discrete_actor_critic"):
        run(config(tmp_path, **{"net": {"name": "actor_critic", "hidden": [4]}}))


def test_values_targets_are_the_sums_of_discounted_rewards():
    """A reward of 1 a step, divided by the scale; an episode's last sum is cut where the pole falls."""
    options = {"target_lambda": 1.0, "discount": 0.5, "reward_scale": 4.0, "rollout_steps": 200, "task_steps": 200}
    stream, net = make_stream(**options)
    with torch.no_grad():
        for p in net.value.parameters():
            p.zero_()
    _, rollout = stream.rollout(0)
    length = rollout.episodes[0][1]
    expected = [sum(0.5**i for i in range(length - t)) / 4 for t in range(length)]
    np.testing.assert_allclose(rollout.transitions.returns[:length].numpy(), expected, rtol=1e-5)
    assert rollout.episodes[0][0] == length  # tables have the rewards as they are


def test_churn_of_a_categorical_policy_is_a_cross_entropy():
    net = NETS["discrete_actor_critic"]((4,), 3, hidden=[5])
    initialise_(net, make_generator(0, "net"))
    chain = INTERVENTIONS["c_chain"]()
    PPOLearner(net, get_optimizer("sgd", net, lr=0.1), [chain])
    outputs, before = torch.randn(2, 7, 4, generator=make_generator(2, "test"))
    expected = -(before[:, :3].softmax(1) * outputs[:, :3].log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(chain._distance(outputs, before), expected)


def test_forward_transfer_is_against_the_same_seeds_new_net():
    rows = [("adam", 0, 0, 5.0), ("adam", 0, 1, 20.0), ("new", 0, 0, 4.0), ("new", 0, 1, 50.0)]
    tasks = pd.DataFrame(rows, columns=["label", "seed", "task", "online_return"]).assign(run="r")
    assert gap_to(tasks, "new", "online_return")["gap"].tolist() == [1.0, -30.0]


def test_a_film_of_a_game(tmp_path):
    needs("lop/Asterix-v0")
    small = {"benchmark.env": ["lop/Asterix-v0"], "benchmark.num_envs": 2, "benchmark.num_tasks": 1}
    folder = run(config(tmp_path, "rl_minatar", **small, **{"net.channels": [2]}), summaries=False).folder
    shown = film(folder, seconds=0.5)
    assert shown.frames[0].shape == (160, 160, 3)
    assert shown.frames[0].any()
