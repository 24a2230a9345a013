# ruff: noqa: E402
"""Environments: the slippery worlds, the pool, and states that go on bit-identically."""

import math
import sys

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")
mujoco = pytest.importorskip("mujoco")

from gymnasium.utils.env_checker import check_env

from lop.envs.make import make_env
from lop.envs.pool import EnvPool
from lop.envs.slippery import SlipperyFriction, friction
from lop.utils.errors import UserError


@pytest.mark.parametrize("name", ["lop/SlipperyAnt-v5", "lop/SlipperyHopper-v5", "lop/SlipperyWalker2d-v4"])
@pytest.mark.filterwarnings("ignore")
def test_slippery_environments_pass_gymnasiums_own_check(name):
    env = gymnasium.make(name)
    assert env.spec.max_episode_steps == 1000
    check_env(env.unwrapped, skip_render_check=True)
    # the wrapper itself, which `unwrapped` leaves out
    slippery = gymnasium.make(name, disable_env_checker=True).env.env
    assert isinstance(slippery, SlipperyFriction)
    check_env(slippery, skip_render_check=True)


def test_friction_is_log_uniform_in_its_range_and_pure_in_seed_and_number():
    values = [friction(seed, k) for seed in range(20) for k in range(100)]
    assert min(values) >= 0.02
    assert max(values) <= 2.0
    # log-uniform: the median is the geometric mean of the ends, a quarter lies below low * (high/low)^(1/4)
    assert np.median(np.log(values)) == pytest.approx(math.log(0.2), abs=0.15)
    assert np.mean(np.array(values) < 0.02 * 100**0.25) == pytest.approx(0.25, abs=0.04)
    assert friction(3, 7) == friction(3, 7)
    assert len({friction(0, 1), friction(0, 2), friction(1, 1)}) == 3


def test_friction_is_drawn_at_first_and_changes_at_the_first_episode_end_after_each_period_and_in_place():
    env = SlipperyFriction(gymnasium.make("Hopper-v5", max_episode_steps=-1), change_every=10, seed=5)
    model, own = env.unwrapped.model, env.unwrapped.model.geom_friction.copy()
    env.reset(seed=0)
    assert np.all(model.geom_friction[:, 0] == friction(5, 0))  # the published code's first phase is drawn too
    zero = np.zeros(env.action_space.shape)
    for _ in range(10):
        env.step(zero)
        assert env.friction == friction(5, 0)  # the episode goes on: nothing changes yet
    env.reset()
    assert model is env.unwrapped.model
    assert np.all(model.geom_friction[:, 0] == friction(5, 1))
    assert np.array_equal(model.geom_friction[:, 1:], own[:, 1:])  # torsional and rolling friction stay
    for _ in range(9):
        env.step(zero)
    env.reset(seed=0)
    assert env.friction == friction(5, 1)
    env.step(zero)
    env.reset()
    assert env.friction == friction(5, 2)


def phases(env, seeds, steps=4, change_every=2) -> list[float]:
    """The frictions of episodes of `change_every` steps, the first of which are reset with these seeds."""
    found = []
    for seed in (*seeds, *[None] * (steps - len(seeds))):
        env.reset(seed=seed)
        found.append(float(env.unwrapped.model.geom_friction[0, 0]))
        for _ in range(change_every):
            env.step(np.zeros(env.action_space.shape))
    return found


def test_a_named_slippery_worlds_schedule_follows_from_the_seed_given_to_reset_or_to_make():
    def make(**options):
        return gymnasium.make("lop/SlipperyHopper-v5", change_every=2, **options)

    for seed in (0, 7):
        schedule = [friction(seed, k) for k in range(4)]
        assert phases(make(), [seed]) == schedule
        assert phases(make(seed=seed), [3, None, 8]) == schedule  # given to make: no reset touches it
        assert phases(make(), [9, None, seed])[2:] == schedule[:2]  # a seeded reset starts anew
    unseeded = make()
    schedule = phases(unseeded, [])
    assert schedule == [friction(unseeded.unwrapped.np_random_seed, k) for k in range(4)]
    assert schedule != phases(make(), [])


def test_a_slippery_world_chosen_by_name_is_the_one_that_friction_every_makes():
    by_name = EnvPool("lop/SlipperyHopper-v5", 2, seed=4)
    plain = EnvPool("Hopper-v5", 2, seed=4, slippery={"change_every": 2_000_000})
    for pool in (by_name, plain):  # one world for all copies
        assert len({float(env.unwrapped.model.geom_friction[0, 0]) for env in pool.envs}) == 1
    assert by_name.friction == plain.friction != EnvPool("lop/SlipperyHopper-v5", 1, seed=5).friction
    # and the options reach it
    narrow = {"change_every": 60, "low": 0.5, "high": 0.5}
    assert EnvPool("lop/SlipperyHopper-v5", 2, seed=4, slippery=narrow).friction == pytest.approx(0.5)


def play(pool: EnvPool, steps: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    seen = []
    for _ in range(steps):
        pool.step(rng.uniform(-1, 1, (len(pool.envs), pool.num_actions)).astype(np.float32))
        seen += [pool.observations.copy(), pool.rewards.copy(), pool.terminated | pool.truncated]
    return seen


@pytest.mark.parametrize("env", ["Ant-v5", "Hopper-v5", "Walker2d-v4"])
def test_a_restored_pool_goes_on_bit_identically(env, tmp_path):
    slippery = {"change_every": 60, "low": 0.02, "high": 2.0}
    options = {"seed": 1, "time_limit": 25, "slippery": slippery}
    one = EnvPool(env, 2, **options)
    play(one, 67, seed=0)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other = EnvPool(env, 2, **options)
    first = other.friction
    play(other, 5, seed=9)  # somewhere else
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.friction == one.friction != first
    for a, b in zip(play(one, 60, seed=2), play(other, 60, seed=2), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.take_finished() == other.take_finished() != []


def test_pool_steps_as_gymnasium_does_and_tells_time_limits_from_falls():
    pool = EnvPool("Hopper-v5", 1, seed=3, time_limit=30)
    env = gymnasium.make("Hopper-v5", max_episode_steps=30)
    # the same generator state, so the same starts
    env.reset(seed=0)
    env.unwrapped.np_random.bit_generator.state = pool.envs[0].unwrapped.np_random.bit_generator.state
    env.unwrapped.set_state(pool.envs[0].unwrapped.data.qpos.copy(), pool.envs[0].unwrapped.data.qvel.copy())
    rng, kinds, total, length = np.random.default_rng(0), set(), 0.0, 0
    for t in range(400):
        # asleep in the first half, so that it falls late; wild in the second, so that it falls early
        action = rng.uniform(-1, 1, (1, 3)).astype(np.float32) * (1.0 if t > 200 else 0.01)
        if length == 0:
            env._elapsed_steps = 0
        pool.step(action)
        observation, reward, terminated, truncated, _ = env.step(action[0])
        total, length = total + reward, length + 1
        assert (pool.terminated[0], pool.truncated[0]) == (terminated, truncated and not terminated)
        assert pool.rewards[0] == pytest.approx(reward, rel=1e-9)
        if terminated or truncated:
            kinds.add("fall" if terminated else "limit")
            np.testing.assert_array_equal(pool.final_observations[0], observation.astype(np.float32))
            assert pool.take_finished() == [(pytest.approx(total), length)]
            observation, total, length = env.reset()[0], 0.0, 0
        np.testing.assert_array_equal(pool.observations[0], observation.astype(np.float32))
    assert kinds == {"fall", "limit"}


def test_threads_do_not_change_the_result():
    played = [play(EnvPool("Hopper-v5", 4, seed=0, threads=threads), 60, seed=1) for threads in (1, 3)]
    for a, b in zip(*played, strict=True):
        np.testing.assert_array_equal(a, b)


def test_actions_are_clipped_to_the_bounds_unless_told_otherwise():
    wild = np.full((1, 3), 7.0, dtype=np.float32)
    rewards = {}
    for clip in (True, False):
        pool = EnvPool("Hopper-v5", 1, seed=0, clip_actions=clip)
        pool.step(wild)
        rewards[clip] = pool.rewards[0]
    # the same force (MuJoCo clamps it), another control cost: 1e-3 * sum(a^2)
    assert rewards[True] - rewards[False] == pytest.approx(1e-3 * 3 * (49 - 1))


def test_a_diverged_policy_does_not_reach_the_simulation():
    pool, still = EnvPool("Hopper-v5", 1, seed=0), EnvPool("Hopper-v5", 1, seed=0)
    pool.step(np.full((1, 3), np.nan, dtype=np.float32))
    still.step(np.zeros((1, 3), dtype=np.float32))
    np.testing.assert_array_equal(pool.observations, still.observations)


MODULE = '''
import gymnasium
import numpy as np
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

class Moody(HopperEnv):
    def __init__(self, mood="good", **options):
        if mood == "bad":
            raise RuntimeError("no hopping\\ntoday")
        super().__init__(**options)

class Chasing(HopperEnv):
    """Keeps a goal, a count and a mood of its own beside the simulation, and what only it can save."""

    def __init__(self, **options):
        self.goal, self.count, self.mood, self.hidden = np.zeros(2), 0, None, [0]
        super().__init__(**options)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        self.count += 1
        self.hidden[0] += 2
        self.goal = self.goal + self.np_random.normal(size=2)
        self.mood = "good" if self.mood is None or self.count % 3 else "bad"
        return observation, reward + self.goal.sum() + self.count + self.hidden[0] + len(self.mood), *rest

    def state_dict(self):
        return {"hidden": list(self.hidden)}

    def load_state_dict(self, state):
        self.hidden = list(state["hidden"])

gymnasium.register("test/Chasing-v0", entry_point=Chasing)
gymnasium.register("test/Moody-v0", entry_point=Moody, max_episode_steps=17)
gymnasium.register("test/Bad-v0", entry_point=Moody, kwargs={"mood": "bad"})
'''


class Looking(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (9, 9, 3), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


class Counting(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (9,), np.uint8)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A module that registers environments when it is imported, and three environments that do not fit."""
    (tmp_path / "moody_worlds.py").write_text(MODULE)
    (tmp_path / "broken_worlds.py").write_text("raise ValueError('not\\ntoday')")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(gymnasium.registry)
    gymnasium.register("test/Looking-v0", entry_point=Looking)
    gymnasium.register("test/Counting-v0", entry_point=Counting)
    gymnasium.register("test/Gone-v0", entry_point="no_such_module_here:Env")
    yield
    sys.modules.pop("moody_worlds", None)
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def test_an_environment_of_a_module_is_imported_and_keeps_its_own_time_limit(registered):
    pool = EnvPool("moody_worlds:test/Moody-v0", 1, seed=0)
    assert type(pool.envs[0].unwrapped).__name__ == "Moody"
    assert pool.time_limit == 17
    with pytest.raises(UserError, match=r"unknown environment 'moody_worlds:Mody-v0'; did you mean 'test/Moody-v0'"):
        make_env("moody_worlds:Mody-v0")


def test_what_a_users_environment_keeps_beside_the_simulation_goes_on_too(registered, tmp_path):
    one, other = (EnvPool("moody_worlds:test/Chasing-v0", 1, seed=0, time_limit=40) for _ in range(2))
    play(one, 50, seed=0)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for a, b in zip(play(one, 50, seed=2), play(other, 50, seed=2), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Hoper-v5", r"env: unknown environment 'Hoper-v5'; did you mean .*'Hopper-v5'"),
        ("Hopper-v9", r"env: unknown environment 'Hopper-v9'; did you mean .*'Hopper-v5'"),
        ("Ant-v3", r"env: Ant-v3 needs what is not installed \(.*gymnasium-robotics.*\); install it, or choose Ant-v5"),
        ("test/Gone-v0", r"env: test/Gone-v0 needs what is not installed \(No module named 'no_such.*\); install it"),
        ("nowhere_at_all:Ant-v5", r"the module of 'nowhere_at_all:Ant-v5' cannot be imported \(No module named"),
        (":Ant-v5", r"the module of ':Ant-v5' cannot be imported"),
        ("broken_worlds:Ant-v5", r"the module of 'broken_worlds:Ant-v5' cannot be imported \(not\)"),
        ("moody_worlds:test/Bad-v0", r"env: moody_worlds:test/Bad-v0 cannot be made \(no hopping\)"),
        ("CartPole-v1", r"env: CartPole-v1 has discrete actions \(Discrete\(2\)\); choose one with continuous actions"),
        ("test/Looking-v0", r"env: test/Looking-v0 has observations of shape \(9, 9, 3\); they must be vectors"),
        ("test/Counting-v0", "env: test/Counting-v0 has observations that are not vectors of real numbers: uint8"),
        ("Pendulum-v1", "env: Pendulum-v1 is not a MuJoCo environment"),
    ],
)
def test_an_environment_that_cannot_run_is_a_users_error(env, message, registered):
    with pytest.raises(UserError, match=message) as caught:
        EnvPool(env, 1, seed=0)
    assert "\n" not in str(caught.value)


def test_more_threads_than_copies_are_refused():
    with pytest.raises(UserError, match="env_threads must be <= num_envs = 2, got 3"):
        EnvPool("Hopper-v5", 2, seed=0, threads=3)
