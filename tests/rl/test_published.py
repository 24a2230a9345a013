"""The shipped configs against the authors' settings: github.com/shibhansh/loss-of-plasticity, lop/rl, in its words."""

from pathlib import Path

import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from lop.nets import ActorCritic
from lop.plan import make_config

CONFIGS = Path(__file__).parents[2] / "lop-src" / "lop" / "rl" / "cfg"
FOLDERS = ("ant", "hopper", "walker", "sant")
PPO = {  # in all of their files
    "g": 0.99,
    "lm": 0.95,
    "bs": 2048,
    "n_itrs": 10,
    "n_slices": 16,
    "lr": 1e-4,
    "h_dim": [256, 256],
    "act_type": "ReLU",
    "u_adv_scl": 1,
    "clip_eps": 0.2,
    "ob_norm": 0,
    "rew_norm": 0,
}
CODE = {  # in no file: what run_ppo.py and ppo.py set or do
    "eps": 1e-8,
    "init": "lecun",
    "max_grad_norm": 1e9,
    "value weight": 1,
    "entropy weight": 0,
    "actions clipped": False,
    "time limit is terminal": True,
    "environments": 1,
}
STEPS = {"ant": 1e8, "hopper": 1e8, "walker": 1e8, "sant": 2e7}
ADAM = {"std": (0.9, 0.999), "ns": (0.99, 0.99)}  # beta_1, beta_2; the others have those of ns
WEIGHT_DECAY = {"std": 0, "ns": 0, "l2": 1e-3, "cbp": 1e-4, "cbpi": 1e-4, "redo": 1e-4}  # wd
CBP = {"rr": 1e-4, "mt": 10000, "util_type": "contribution", "accumulate": False}
ALGOS = {"std": [], "ns": [], "l2": ["l2"], "cbp": ["l2", "cbp"], "cbpi": ["l2", "cbp"], "redo": ["l2", "redo"]}
DECAY_RATE = {"cbp": 0.99, "cbpi": 0}
REDO = {
    "threshold": 0.1,
    "reset_period": 100,
    "weights": "fresh",
}  # dormant: at most the threshold times the layer's mean


def config_of(folder: str, method: str):
    return make_config(CONFIGS / folder / f"{method}.yml")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("method", list(WEIGHT_DECAY))
def test_a_published_methods_config_has_its_published_values(folder, method):
    config = config_of(folder, method)
    o = config.benchmark.options
    assert {
        "g": o["discount"],
        "lm": o["gae_lambda"],
        "bs": o["rollout_steps"],
        "n_itrs": o["epochs"],
        "n_slices": o["minibatches"],
        "lr": config.optimizer.options["lr"],
        "h_dim": list(config.net.options["hidden"]),
        "act_type": {"relu": "ReLU"}[config.net.options["activation"]],
        "u_adv_scl": int(o["standardise_advantages"] and o["standardise_over"] == "rollout"),
        "clip_eps": o["clip"],
        "ob_norm": int(o["normalise_observations"]),
        "rew_norm": int(o["normalise_rewards"]),
    } == PPO
    assert {
        "eps": config.optimizer.options["eps"],
        "init": {"lecun_uniform": "lecun"}[config.net.options["init"]],
        "max_grad_norm": config.optimizer.options.get("max_grad_norm") or 1e9,
        "value weight": o["value_weight"],
        "entropy weight": o["entropy_weight"],
        "actions clipped": o["clip_actions"],
        "time limit is terminal": o["time_limit_is_terminal"],
        "environments": o["num_envs"],
    } == CODE
    assert (config.optimizer.name, config.net.name) == ("adam", "actor_critic")
    assert (o["value_clip"], o["target_kl"], o["time_limit"]) == (None, None, None)
    assert o["num_tasks"] * o["task_steps"] == STEPS[folder]
    assert tuple(config.optimizer.options["betas"]) == ADAM.get(method, ADAM["ns"])
    assert config.optimizer.options.get("weight_decay", 0) == 0  # it is the l2 below: Adam sees it in the gradient
    algos = {algo.name: algo.options for algo in config.algos}
    assert list(algos) == ALGOS[method]
    assert algos.get("l2", {"weight": 0})["weight"] == WEIGHT_DECAY[method]
    if "cbp" in algos:
        assert algos["cbp"]["replacement_rate"] == CBP["rr"]
        assert algos["cbp"]["maturity_threshold"] == CBP["mt"]
        assert algos["cbp"]["util_type"] == CBP["util_type"]
        assert algos["cbp"]["accumulate"] == CBP["accumulate"]
        assert algos["cbp"]["decay"] == DECAY_RATE[method]
    if "redo" in algos:
        assert algos["redo"] == {
            "threshold": REDO["threshold"],
            "period": REDO["reset_period"],
            "weights": REDO["weights"],
        }


def test_slippery_ants_friction_changes_as_published():
    for path in sorted((CONFIGS / "sant").glob("*.yml")):
        o = make_config(path).benchmark.options
        assert (o["friction_every"], o["friction_low"], o["friction_high"]) == (2_000_000, 0.02, 2.0)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_method_of_a_folder_meets_the_same_benchmark_and_net(folder):
    """So that methods whose authors published no settings here can be compared with those that have them."""
    std = config_of(folder, "std")
    for path in sorted((CONFIGS / folder).glob("*.yml")):
        config = make_config(path)
        assert (config.benchmark, config.net) == (std.benchmark, std.net)


def test_the_net_has_the_published_initial_log_std():
    assert ActorCritic((3,), 2).log_std.value.tolist() == [0.0, 0.0]
