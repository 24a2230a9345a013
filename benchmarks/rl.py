"""Environment steps per second of PPO, everything included: acting, the update, the optimizer.

One update is 2,048 env steps and 160 minibatch steps; with discrete actions (`--benchmark rl_cartpole`) 800 and 125.
Beside Stable-Baselines3's PPO with the same settings, where that is installed. Rounds are interleaved.
`python benchmarks/rl.py [--benchmark rl_ant] [--env Ant-v5] [--envs 1,4,8] [--env-threads 2]`
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from _timing import interleaved_times, median_ratio, print_table

from lop.experiment import build
from lop.plan import make_config

STEPS = {"rl_ant": 2048, "rl_cartpole": 800}
ENVS = {"rl_ant": "Ant-v5", "rl_cartpole": "CartPole-v1"}
SETTINGS = {
    "adam": {},
    "sophiah": {"lr": 1e-5, "lazy_hessian": 10},
    "adahessian": {"lr": 1e-4, "lazy_hessian": 1},
    "sassha": {"lr": 1e-4, "lazy_hessian": 1},
    "kfac": {"lr": 1e-4, "damping": 0.1},
    "shampoo": {"lr": 1e-4},
}


def own_update(
    benchmark: str, optimizer: str, env: str, num_envs: int, env_threads: int, device: str
) -> Callable[[], None]:
    """One rollout and its update, with this project's PPO."""
    overrides = {"benchmark.env": env, "benchmark.num_envs": num_envs, "run.device": device}
    if benchmark == "rl_ant":
        overrides["benchmark.env_threads"] = min(env_threads, num_envs)
    overrides |= {f"optimizer.{name}": value for name, value in SETTINGS.get(optimizer, {}).items()}
    experiment = build(make_config(benchmark=benchmark, optimizer=optimizer, overrides=overrides))

    def update() -> None:
        experiment.learner.learn(*experiment.stream.rollout(0))

    return update


def baselines_update(benchmark: str, env: str, num_envs: int) -> Callable[[], None] | None:
    """The same with Stable-Baselines3 and Adam, or None where it is not installed."""
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env
    except ImportError:
        return None
    steps = STEPS[benchmark]
    if benchmark == "rl_ant":
        hidden, activation = [256, 256], torch.nn.ReLU
        settings = {"batch_size": 128, "n_epochs": 10, "learning_rate": 1e-4, "vf_coef": 1.0}
    else:
        hidden, activation = [128, 128, 128], torch.nn.LeakyReLU
        settings = {"batch_size": 32, "n_epochs": 5, "learning_rate": 1e-3, "vf_coef": 0.5, "ent_coef": 0.01}
    shape = {"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": activation}
    settings |= {"n_steps": steps // num_envs, "policy_kwargs": shape, "device": "cpu", "seed": 0}
    model = PPO("MlpPolicy", make_vec_env(env, num_envs), **settings)
    return lambda: model.learn(steps, reset_num_timesteps=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="rl_ant", choices=STEPS)
    parser.add_argument("--env", help="default: Ant-v5, or CartPole-v1")
    parser.add_argument("--envs", default="1,4,8", help="how many copies of the environment")
    parser.add_argument("--optimizers", default="adam,sophiah,adahessian,sassha,kfac")
    parser.add_argument("--env-threads", type=int, default=1, help="threads that step the copies")
    parser.add_argument("--threads", type=int, help="threads of torch; default: as many as it takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.env = options.env or ENVS[options.benchmark]
    if options.threads:
        torch.set_num_threads(options.threads)
    cases, baseline = {}, "stable-baselines3 adam"
    for number in map(int, options.envs.split(",")):
        if (update := baselines_update(options.benchmark, options.env, number)) is not None:
            cases[baseline, number] = update
        for name in options.optimizers.split(","):
            settings = (options.env, number, options.env_threads, options.device)
            cases[name, number] = own_update(options.benchmark, name, *settings)
    times = interleaved_times(cases, rounds=options.rounds, device=options.device)
    rows = []
    for name, number in cases:
        ratio = 1 / median_ratio(times, (name, number), (baseline, number)) if (baseline, number) in cases else "-"
        rows.append([name, number, f"{STEPS[options.benchmark] / statistics.median(times[name, number]):.0f}", ratio])
    threads = f"{torch.get_num_threads()} threads of torch, {options.env_threads} for the environments"
    print(f"PPO on {options.env}, {options.device}, {threads}")
    print_table(["method", "envs", "env steps/s", "x stable-baselines3"], rows)


if __name__ == "__main__":
    main()
