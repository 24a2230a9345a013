"""Runs of every benchmark that take a fraction of a second, on generated data; what "the same results" means."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the commands of this folder; pytest does it by itself
from bitwise import same
from generated_data import write_cifar, write_class_files, write_tiny_imagenet

from lop.config import Config, override
from lop.optimizers import optimizer_options
from lop.plan import BENCHMARKS, resolve
from lop.runs import TABLES, checkpoint

CONTROL = all(importlib.util.find_spec(name) for name in ("gymnasium", "mujoco", "Box2D", "minatar"))
NAMES = [name for name, benchmark in BENCHMARKS.items() if CONTROL or benchmark.kind == "supervised"]

_MLP = {"name": "mlp", "hidden": [8, 6]}
_CNN = {"name": "cnn", "channels": [3, 3], "kernel_sizes": [5, 5], "hidden": [6]}
_DIGITS = {"dataset": "digits", "num_tasks": 2, "epochs": 1, "batch_size": 8}
_OWN = {"verify": False, "num_tasks": 2, "batch_size": 5}
_CONTROL = {
    "num_tasks": 2,
    "task_steps": 96,
    "rollout_steps": 32,
    "minibatches": 2,
    "epochs": 2,
    "time_limit": 20,
}
_DISCRETE = {"name": "discrete_actor_critic", "hidden": [6, 6]}
_SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "permuted_mnist": ({**_DIGITS, "examples_per_task": 40}, _MLP),
    "permuted_digits": ({**_DIGITS, "examples_per_task": 40}, _MLP),
    "label_permuted": ({"num_tasks": 2, "steps_per_task": 8, "batch_size": 4}, _MLP),
    "warm_start": ({"num_tasks": 2, "examples": 80, "epochs": 2, "first_epochs": 3, "batch_size": 4}, _MLP),
    "growing": ({"num_tasks": 2, "examples": 40, "epochs": 2, "batch_size": 4}, _MLP),
    "incremental_cifar": (
        {**_OWN, "epochs": 2, "train_per_class": 3, "validation_per_class": 2},
        {"name": "resnet18", "width": 2},
    ),
    "imagenet": ({**_OWN, "epochs": 2}, {**_CNN, "name": "convnet", "kernel_sizes": [3, 3]}),
    "tiny_imagenet": ({**_OWN, "epochs": 2, "classes_per_task": 3}, {**_CNN, "name": "convnet"}),
    "slowly_changing_regression": ({"num_tasks": 2, "flip_every": 12, "batch_size": 2}, {**_MLP, "hidden": [5]}),
    "random_label_mnist": ({**_DIGITS, "num_examples": 24, "epochs": 2}, _MLP),
    "random_label_cifar": ({**_OWN, "num_examples": 20, "epochs": 2}, _CNN),
    "five_plus_one_cifar": ({**_OWN, "steps_per_task": 6}, _CNN),
    **dict.fromkeys(("rl_cartpole", "rl_acrobot", "rl_lunar_lander"), (_CONTROL, _DISCRETE)),
    "rl_minatar": ({**_CONTROL, "num_envs": 2}, {"name": "conv_actor_critic", "channels": [2], "hidden": [6]}),
    "rl_slippery_ant": ({**_CONTROL, "friction_every": 40}, {"name": "actor_critic", "hidden": [6, 6]}),
}
SMALL_METRICS = {"reference_size": 8, "ntk_size": 4}
LR = {"lr": 1e-3}


def write_data(folder: Path) -> Path:
    """What the benchmarks load from disk, tiny, in the published formats."""
    write_cifar(folder / "cifar-100-python")
    write_cifar(folder / "cifar-10-batches-py", classes=10, train=10)
    write_class_files(folder / "imagenet32" / "classes")
    write_tiny_imagenet(folder, classes=6, train=6, val=2)
    return folder


def micro_data(benchmark: str, data_dir: Path, results_dir: Path, optimizer: str = "sgd", algos=()) -> dict[str, Any]:
    """The config of a run of two tasks and a few steps, as a dict."""
    control = BENCHMARKS[benchmark].kind == "control"
    other = (_CONTROL, {"name": "actor_critic", "hidden": [6, 6]}) if control else ({"num_tasks": 2}, _MLP)
    sizes, net = _SIZES.get(benchmark, other)
    lr = LR if "lr" in optimizer_options(optimizer) else {}
    return {
        "benchmark": {"name": benchmark, **sizes},
        "net": dict(net),
        "optimizer": {"name": optimizer, **lr},
        "algos": list(algos),
        "metrics": dict(SMALL_METRICS),
        "run": {"device": "cpu", "results_dir": str(results_dir), "data_dir": str(data_dir)},
    }


def micro_config(*args, overrides: dict[str, Any] | None = None, **kwargs) -> Config:
    """As `micro_data`, checked."""
    data = micro_data(*args, **kwargs)
    for key, value in (overrides or {}).items():
        data = override(data, key, value)
    return resolve(data)


def tables(folder: Path) -> dict[str, bytes]:
    """The tables of a run, but for the seconds that it took."""
    paths = {name: folder / f"{name}.csv" for name in TABLES if name != "timing"}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def final_state(folder: Path) -> dict[str, Any]:
    """All of the last checkpoint but how long the evaluation took."""
    state = checkpoint.load(folder / "checkpoint.pt")
    return {key: value for key, value in state.items() if key not in ("tables", "before")}


def differences(whole: Path, parts: Path) -> list[str]:
    """How the results of two runs of one config differ; empty when nothing was lost."""
    found = []
    one, other = tables(whole), tables(parts)
    found += [f"{name}.csv" for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    one, other = final_state(whole), final_state(parts)
    found += [f"checkpoint: {name}" for name in sorted(one.keys() | other.keys()) if not same(one[name], other[name])]
    names = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in (whole, parts)]
    return found + [f"file {name}" for name in sorted(names[0] ^ names[1])]
