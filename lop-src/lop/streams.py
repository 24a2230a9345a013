"""Benchmarks by name. A new benchmark is a folder with stream.py and cfg/, and one entry here."""

from dataclasses import dataclass, field
from typing import Any

import torch

from lop.data.stream import TaskStream
from lop.permuted_mnist.stream import PermutedImages
from lop.utils.errors import lookup


@dataclass(frozen=True)
class Benchmark:
    """stream: its class, called with (seed, data_dir, device, **options).

    defaults: options of this name that differ from the class's. net: the net section used where a config has none.
    family: the command of main.py. configs: folder with one config file per method, below the package.
    """

    stream: type[TaskStream]
    family: str
    configs: str
    defaults: dict[str, Any] = field(default_factory=dict)
    net: dict[str, Any] = field(default_factory=dict)


BENCHMARKS: dict[str, Benchmark] = {
    "permuted_mnist": Benchmark(
        PermutedImages,
        family="mnist",
        configs="permuted_mnist/cfg",
        net={"name": "mlp", "hidden": [2000, 2000, 2000]},
    ),
    "permuted_digits": Benchmark(
        PermutedImages,
        family="mnist",
        configs="permuted_mnist/cfg",
        defaults={"dataset": "digits", "batch_size": 16, "num_tasks": 20},
        net={"name": "mlp", "hidden": [100, 100, 100]},
    ),
}


def make_stream(
    name: str, options: dict[str, Any], seed: int, data_dir: str | None, device: torch.device | str
) -> TaskStream:
    """The benchmark's stream; `options` override the benchmark's defaults.

    Raises UserError for an unknown name, and whatever the stream raises for its options and data.
    """
    benchmark = lookup(BENCHMARKS, name, "benchmark")
    return benchmark.stream(seed, data_dir, device, **{**benchmark.defaults, **options})
