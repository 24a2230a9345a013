"""Benchmarks by name. A new benchmark is a folder with stream.py and cfg/, and one entry here."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from lop.data.stream import TaskStream
from lop.envs import Control
from lop.five_plus_one.stream import FivePlusOne
from lop.imagenet.stream import ClassSubsets
from lop.incremental_cifar.stream import IncrementalClasses
from lop.permuted_mnist.stream import PermutedImages
from lop.random_labels.stream import RandomLabels
from lop.slowly_changing_regression.stream import SlowlyChangingRegression
from lop.utils.errors import lookup


@dataclass(frozen=True)
class Benchmark:
    """stream: its class, called with (seed, data_dir, device, **options).

    defaults: options of this name that differ from the class's. net: the net section used where a config has none.
    family: the command of main.py. configs: folder with one config file per method, below the package.
    kind: which loop runs it: "supervised", or "control" for reinforcement learning. optimizer: the default one,
    also the baseline. plain: the config in `configs` that has its settings for the benchmark's defaults.
    """

    stream: type[TaskStream]
    family: str
    configs: str
    defaults: dict[str, Any] = field(default_factory=dict)
    net: dict[str, Any] = field(default_factory=dict)
    kind: Literal["supervised", "control"] = "supervised"
    optimizer: str = "sgd"
    plain: str = "bp"


def _control(folder: str, **defaults: Any) -> Benchmark:
    return Benchmark(
        Control,
        family="rl",
        configs=f"rl/cfg/{folder}",
        defaults=defaults,
        net={"name": "actor_critic"},
        kind="control",
        optimizer="adam",
        plain="std",
    )


BENCHMARKS: dict[str, Benchmark] = {
    "permuted_mnist": Benchmark(
        PermutedImages,
        family="mnist",
        configs="permuted_mnist/cfg",
        net={"name": "mlp", "hidden": [2000, 2000, 2000]},
        plain="bp_batch_32",
    ),
    "permuted_digits": Benchmark(
        PermutedImages,
        family="mnist",
        configs="permuted_mnist/cfg/digits",
        defaults={"dataset": "digits", "batch_size": 16, "epochs": 5, "num_tasks": 40},
        net={"name": "mlp", "hidden": [100, 100, 100]},
    ),
    "incremental_cifar": Benchmark(
        IncrementalClasses,
        family="cifar",
        configs="incremental_cifar/cfg",
        net={"name": "resnet18"},
        plain="base_deep_learning_system",
    ),
    "imagenet": Benchmark(
        ClassSubsets,
        family="imagenet",
        configs="imagenet/cfg",
        net={"name": "convnet"},
    ),
    "tiny_imagenet": Benchmark(
        ClassSubsets,
        family="imagenet",
        configs="imagenet/cfg/tiny_imagenet",
        defaults={"dataset": "tiny_imagenet", "num_tasks": 100, "classes_per_task": 10, "epochs": 25, "resize": 32},
        net={"name": "convnet"},
    ),
    "slowly_changing_regression": Benchmark(
        SlowlyChangingRegression,
        family="regression",
        configs="slowly_changing_regression/cfg",
        net={"name": "mlp", "hidden": [5]},
        plain="relu",
    ),
    "random_label_mnist": Benchmark(
        RandomLabels,
        family="labels",
        configs="random_labels/cfg/mnist",
        net={"name": "mlp", "hidden": [100, 100]},
        plain="bp_sgd",
    ),
    "random_label_cifar": Benchmark(
        RandomLabels,
        family="labels",
        configs="random_labels/cfg/cifar",
        defaults={"dataset": "cifar10"},
        net={"name": "cnn"},
        plain="bp_sgd",
    ),
    "five_plus_one_cifar": Benchmark(
        FivePlusOne,
        family="five-plus-one",
        configs="five_plus_one/cfg",
        net={"name": "cnn"},
        plain="bp_sgd",
    ),
    "rl_ant": _control("ant", env="Ant-v5"),
    "rl_hopper": _control("hopper", env="Hopper-v5"),
    "rl_walker": _control("walker", env="Walker2d-v5"),
    "rl_slippery_ant": _control("sant", env="Ant-v5", num_tasks=300, friction_every=2_000_000),
}


def make_stream(
    name: str, options: dict[str, Any], seed: int, data_dir: str | None, device: torch.device | str
) -> TaskStream:
    """The benchmark's stream; `options` override the benchmark's defaults.

    Raises UserError for an unknown name, and whatever the stream raises for its options and data.
    """
    benchmark = lookup(BENCHMARKS, name, "benchmark")
    return benchmark.stream(seed, data_dir, device, **{**benchmark.defaults, **options})
