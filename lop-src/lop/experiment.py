"""From a config to the parts of a run: everything built before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lop.algos import INTERVENTIONS
from lop.config import Config
from lop.data.stream import TaskStream
from lop.metrics import Dashboard
from lop.nets import NETS, Net
from lop.nets.foreign import find_net
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.plan import BENCHMARKS, blame
from lop.training.learner import Learner
from lop.training.online import OnlineRecorder
from lop.utils.devices import find_device
from lop.utils.errors import UserError, lookup
from lop.utils.memory import memory_errors, require_weights_fit
from lop.utils.seeding import derive_seed, make_generator

SMALL_NET = 500_000  # parameters


@dataclass(frozen=True)
class Experiment:
    """The parts of one run."""

    config: Config
    stream: TaskStream
    learner: Learner
    dashboard: Dashboard
    recorder: OnlineRecorder


def make_stream(
    name: str, options: dict[str, Any], seed: int, data_dir: str | None, device: torch.device | str
) -> TaskStream:
    """The benchmark's stream; `options` override the benchmark's defaults.

    Raises UserError for an unknown name, and whatever the stream raises for its options and data.
    """
    benchmark = lookup(BENCHMARKS, name, "benchmark")
    return benchmark.stream(seed, data_dir, device, **{**benchmark.defaults, **options})


def default_threads(net: Net) -> int | None:
    """1 for small nets of Linear layers on the CPU, where threads cost more than they give; None: as torch chooses."""
    parameters = list(net.parameters())
    small = sum(p.numel() for p in parameters) < SMALL_NET
    dense = not any(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    return 1 if small and dense and parameters[0].device.type == "cpu" else None


def build(config: Config) -> Experiment:
    """Everything a run needs, on its device. Raises UserError for values and data that cannot run."""
    seed = config.run.seed
    device = find_device(config.run.device)
    benchmark, given, section = BENCHMARKS[config.benchmark.name], config.benchmark.options, config.net
    if config.run.data_dir is not None and not Path(config.run.data_dir).expanduser().is_dir():
        raise UserError(f"no such folder, {config.run.data_dir}", option="run.data_dir", joint=": ")
    with blame("benchmark"), memory_errors("ask for less data"):
        stream = make_stream(config.benchmark.name, given, seed, config.run.data_dir, device)
    with blame("net"), memory_errors("make it smaller"):
        net = find_net(section.name)(stream.input_shape, stream.num_outputs, **section.options)
        require_weights_fit(net, device)
    if stream.actions != getattr(net, "actions", None):
        fitting = ", ".join(name for name in NETS if getattr(NETS[name], "actions", None) == stream.actions)
        raise UserError(f"net.name: {section.name!r} does not fit {config.benchmark.name}; choose {fitting}")
    initialise_(net, make_generator(seed, "net"))
    net.to(device)
    if threads := config.run.threads or default_threads(net):
        torch.set_num_threads(threads)
    with blame("optimizer"):
        options = {"seed": derive_seed(seed, "optimizer"), **config.optimizer.options}
        optimizer = get_optimizer(config.optimizer.name, net, **options)
    interventions = []
    for i, algo in enumerate(config.algos):
        with blame(f"algos.{i}"):
            interventions.append(INTERVENTIONS[algo.name](**algo.options))
    with blame("algos"):  # an intervention may not fit the net or the benchmark
        learner = benchmark.learner(net, optimizer, interventions, stream, seed)
    with blame("metrics"):
        dashboard = Dashboard(learner, **{"seed": derive_seed(seed, "metrics"), **config.metrics})
    recorder = benchmark.recorder(learner, stream, dashboard.settings.reference_size)
    return Experiment(config, stream, learner, dashboard, recorder)
