"""From a config to the parts of a run: names looked up, options checked, everything built before anything runs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import lop
from lop.algos import INTERVENTIONS
from lop.config import Config, Section, check_options, default_options, override, read_file, validate
from lop.data.stream import TaskStream
from lop.metrics import Dashboard
from lop.nets import NETS, ActorCritic, Net
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer, optimizer_options
from lop.streams import BENCHMARKS, Benchmark, make_stream
from lop.training.learner import Learner
from lop.utils.devices import find_device
from lop.utils.errors import UserError, lookup
from lop.utils.memory import memory_errors, require_weights_fit
from lop.utils.seeding import derive_seed, make_generator

SMALL_NET = 500_000  # parameters
RUN_SEEDS = {"seed"}  # options that follow from run.seed unless a config sets them


class Experiment:
    """The parts of one run."""

    def __init__(self, config: Config, stream: TaskStream, learner: Learner, dashboard: Dashboard):
        self.config, self.stream, self.learner, self.dashboard = config, stream, learner, dashboard
        self._pristine = None
        if config.run.on_divergence == "reset_network":
            self._pristine = copy.deepcopy([i.state_dict() for i in learner.interventions])

    def reset_network(self, number: int) -> None:
        """Draw the net afresh and forget what the optimizer and the interventions gathered. number: of the reset."""
        generator = make_generator(self.config.run.seed, "net", "reset", number)
        initialise_(self.learner.net, generator)
        self.learner.optimizer.state.clear()
        for intervention, state in zip(self.learner.interventions, copy.deepcopy(self._pristine), strict=True):
            intervention.load_state_dict(state)


def make_config(
    path: str | Path | None = None,
    *,
    benchmark: str | None = None,
    optimizer: str | None = None,
    algos: list[str | dict[str, Any]] | None = None,
    overrides: dict[str, Any] | None = None,
) -> Config:
    """A checked config: a file's content, then the parts given by name, then overrides by dotted path.

    A benchmark brings its default net; an optimizer given by name brings the settings of the config that the
    benchmark ships for it, where there is one. Raises UserError, naming the key, for anything that cannot run.
    """
    data = read_file(path) if path is not None else {}
    if benchmark is not None and _name(data.get("benchmark")) != benchmark:
        data["benchmark"] = {"name": benchmark}
        data.pop("net", None)
    if optimizer is not None and _name(data.get("optimizer")) != optimizer:
        data["optimizer"] = shipped_optimizer(_name(data.get("benchmark")), optimizer)
    if algos is not None:
        data["algos"] = list(algos)
    for key, value in (overrides or {}).items():
        data = override(data, key, value)
    return resolve(data)


def _name(section: Any) -> str | None:
    return section.get("name") if isinstance(section, dict) else section


def shipped_optimizer(benchmark: str | None, optimizer: str) -> dict[str, Any]:
    """The optimizer section of the benchmark's config for this optimizer, or just its name."""
    known = BENCHMARKS.get(benchmark) if benchmark else None
    if known is not None:
        for stem in (f"secondorder_{optimizer}", optimizer, f"{optimizer}_nosdp", known.plain, "bp"):
            for path in (config_folder(known) / f"{stem}{suffix}" for suffix in (".json", ".yml")):
                section = read_file(path)["optimizer"] if path.exists() else None
                if _name(section) == optimizer:
                    return section
    return {"name": optimizer}


def config_folder(benchmark: Benchmark) -> Path:
    return Path(lop.__file__).parent / benchmark.configs


def resolve(data: dict[str, Any]) -> Config:
    """The config of a dict with every name known, every option's type checked and every default filled in."""
    benchmark = _name(data.get("benchmark"))
    if isinstance(benchmark, str):
        known = lookup(BENCHMARKS, benchmark, "benchmark (benchmark.name)")
        for key, default in (("net", known.net), ("optimizer", shipped_optimizer(benchmark, known.optimizer))):
            data = {**data, key: _completed(data.get(key, {}), default)}
    config = validate(data)
    known = lookup(BENCHMARKS, config.benchmark.name, "benchmark")
    config.benchmark = _filled("benchmark", known.stream, config.benchmark, known.defaults)
    config.net = _filled("net", lookup(NETS, config.net.name, "net (net.name)"), config.net)
    with blame("optimizer.name"):
        hyperparameters = optimizer_options(config.optimizer.name)
    config.optimizer = _filled("optimizer", hyperparameters, config.optimizer)
    config.algos = [
        _filled(f"algos.{i}", lookup(INTERVENTIONS, algo.name, f"intervention (algos.{i}.name)"), algo)
        for i, algo in enumerate(config.algos)
    ]
    config.metrics = check_options("metrics", Dashboard, config.metrics)
    return config


def _completed(section: Any, default: dict[str, Any]) -> Any:
    """A section without a name, or with the default's, on top of the default; any other section as it is."""
    if isinstance(section, dict) and section.get("name", default["name"]) == default["name"]:
        return {**default, **section}
    return section


def _filled(path: str, part: Any, section: Section, defaults: dict[str, Any] | None = None) -> Section:
    options = check_options(path, part, {**(defaults or {}), **section.options})
    filled = {name: value for name, value in default_options(part).items() if name not in RUN_SEEDS}
    return Section(name=section.name, **{**filled, **options})


@contextlib.contextmanager
def blame(path: str, options: dict[str, Any] | None = None) -> Iterator[None]:
    """Say which section of the config a wrong value came from."""
    try:
        yield
    except ValueError as error:
        first = str(error).split(" ", 1)[0].rstrip(":")
        raise UserError(f"{path}.{error}" if first in (options or {}) else f"{path}: {error}") from None


def supervised_learner(net, optimizer, interventions, stream: TaskStream, seed: int) -> Learner:
    learner = Learner(net, optimizer, interventions, loss=stream.loss, seed=seed)
    stream.accelerate(learner)
    return learner


def default_threads(net: Net) -> int | None:
    """1 for small nets of Linear layers on the CPU, where threads cost more than they give; None: as torch chooses."""
    parameters = list(net.parameters())
    small = sum(p.numel() for p in parameters) < SMALL_NET
    dense = not any(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    return 1 if small and dense and parameters[0].device.type == "cpu" else None


def build(config: Config, make_learner: Callable[..., Learner] = supervised_learner) -> Experiment:
    """Everything a run needs, on its device. Raises UserError for values and data that cannot run."""
    seed = config.run.seed
    device = find_device(config.run.device)
    benchmark, section = config.benchmark, config.net
    with blame("benchmark", benchmark.options), memory_errors("ask for less data"):
        stream = make_stream(benchmark.name, benchmark.options, seed, config.run.data_dir, device)
    with blame("net", section.options), memory_errors("make it smaller"):
        net = NETS[section.name](stream.input_shape, stream.num_outputs, **section.options)
        require_weights_fit(net, device)
    control = BENCHMARKS[benchmark.name].kind == "control"
    if control != isinstance(net, ActorCritic):
        fitting = "actor_critic" if control else ", ".join(name for name in NETS if name != "actor_critic")
        raise UserError(f"net.name: {section.name!r} does not fit {benchmark.name}; choose {fitting}")
    initialise_(net, make_generator(seed, "net"))
    net.to(device)
    if threads := config.run.threads or default_threads(net):
        torch.set_num_threads(threads)
    with blame("optimizer", config.optimizer.options):
        options = {"seed": derive_seed(seed, "optimizer"), **config.optimizer.options}
        optimizer = get_optimizer(config.optimizer.name, net, **options)
    interventions = []
    for i, algo in enumerate(config.algos):
        with blame(f"algos.{i}", algo.options):
            interventions.append(INTERVENTIONS[algo.name](**algo.options))
    with blame("algos"):  # an intervention may not fit the net or the benchmark
        learner = make_learner(net, optimizer, interventions, stream, seed)
    with blame("metrics", config.metrics):
        dashboard = Dashboard(learner, **{"seed": derive_seed(seed, "metrics"), **config.metrics})
    return Experiment(config, stream, learner, dashboard)
