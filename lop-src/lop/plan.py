"""From words to a checked config: names looked up, options checked, everything filled in before anything is built."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lop.algos import INTERVENTIONS
from lop.chosen import with_chosen
from lop.config import Config, Section, override, parse_override, read_file, validate
from lop.metrics import checked_extras, dashboard_options
from lop.nets.foreign import find_net
from lop.optimizers import optimizer_options
from lop.training.benchmark import BENCHMARKS
from lop.utils.documents import parse_value
from lop.utils.errors import UserError, lookup, shown
from lop.utils.options import check_options, default_options
from lop.utils.place import kaggle_folder, place
from lop.utils.ranges import seeds_of
from lop.utils.registry import load_plugin
from lop.utils.shipped import PACKAGE

MOST_MEMBERS = 10_000
RUN_SEEDS = {"seed"}  # options that follow from run.seed unless a config sets them

# a benchmark is a package of lop with a stream.py, which registers it
for _file in sorted(PACKAGE.glob("*/stream.py")):
    importlib.import_module(f"lop.{_file.parent.name}.stream")


def make_config(
    path: str | Path | None = None,
    *,
    benchmark: str | None = None,
    optimizer: str | None = None,
    algos: Sequence[str | dict[str, Any]] | None = None,
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
    overrides = dict(overrides or {})
    if (where := overrides.pop("optimizer.settings", None)) is not None:  # in place of what the benchmark ships
        name = _name(data.get("optimizer"))
        data["optimizer"] = {**({} if name is None else {"name": name}), "settings": where}
    for key, value in overrides.items():
        data = override(data, key, value)
    return resolve(data)


def _name(section: Any) -> str | None:
    return section.get("name") if isinstance(section, dict) else section


def shipped_optimizer(benchmark: str | None, optimizer: str) -> dict[str, Any]:
    """The optimizer section of the benchmark's config for this optimizer, else its name with what a search found."""
    known = BENCHMARKS.get(benchmark) if isinstance(benchmark, str) else None
    if known is not None and known.configs is not None:
        for stem in (f"secondorder_{optimizer}", optimizer, f"{optimizer}_nosdp", known.plain, "bp"):
            for path in (known.configs / f"{stem}{suffix}" for suffix in (".json", ".yml")):
                section = read_file(path)["optimizer"] if path.exists() else None
                if section is not None and _name(section) == optimizer:
                    return section
        return {"name": optimizer, **known.tuned(optimizer)}
    return {"name": optimizer}


def resolve(data: dict[str, Any]) -> Config:
    """The config of a dict with every name known, every option's type checked and every default filled in.

    Plugins are imported first, so that what they register is known.
    """
    _load_plugins(data.get("run"))
    benchmark = _name(data.get("benchmark"))
    if isinstance(benchmark, str):
        known = lookup(BENCHMARKS, benchmark, "benchmark (benchmark.name)")
        data = with_chosen(data, benchmark, known.optimizer)
        for key, default in (("net", known.net), ("optimizer", shipped_optimizer(benchmark, known.optimizer))):
            data = {**data, key: _completed(data.get(key, {}), default)}
    config = validate(data)
    known = lookup(BENCHMARKS, config.benchmark.name, "benchmark")
    config.benchmark = _filled("benchmark", known.stream, config.benchmark, known.defaults)
    config.net = _filled("net", find_net(config.net.name), config.net)
    with blame("optimizer.name"):
        hyperparameters = optimizer_options(config.optimizer.name)
    config.optimizer = _filled("optimizer", hyperparameters, config.optimizer)
    config.algos = [
        _filled(f"algos.{i}", lookup(INTERVENTIONS, algo.name, f"intervention (algos.{i}.name)"), algo)
        for i, algo in enumerate(config.algos)
    ]
    known_options = dashboard_options()
    given = check_options("metrics", known_options, config.metrics)
    if "extras" in given:
        with blame("metrics"):
            given["extras"] = checked_extras(given["extras"])
    defaults = {
        name: list(o.default) if isinstance(o.default, tuple) else o.default for name, o in known_options.items()
    }
    config.metrics = {name: value for name, value in given.items() if value != defaults[name]}
    return config


def _load_plugins(run: Any) -> None:
    plugins = run.get("plugins") if isinstance(run, dict) else None
    for plugin in plugins if isinstance(plugins, list) else []:  # anything else is refused with the rest of `run`
        if isinstance(plugin, str):
            load_plugin(plugin)


def _completed(section: Any, default: dict[str, Any]) -> Any:
    """A section without a name, or with the default's, on top of the default; any other section as it is."""
    if isinstance(section, dict) and section.get("name", default["name"]) == default["name"]:
        return {**default, **section}
    return section


def _filled(path: str, part: Any, section: Section, defaults: dict[str, Any] | None = None) -> Section:
    filled = {name: value for name, value in default_options(part).items() if name not in RUN_SEEDS}
    # defaults are checked, too, so that a number is written as its type says, whoever gave it: a run's name has it
    options = check_options(path, part, {**filled, **(defaults or {}), **section.options})
    return Section(name=section.name, **options)


@contextlib.contextmanager
def blame(path: str) -> Iterator[None]:
    """Say which section of the config a wrong value came from."""
    try:
        yield
    except UserError as error:
        raise error.within(path) from None
    except ValueError as error:  # of torch or another library, whose words are its own
        raise UserError(str(error), option=path, joint=": ") from None


def plan(
    *,
    optimizer: str | None = None,
    benchmark: str | None = None,
    algos: Sequence[str | dict[str, Any]] | str = (),
    config: str | None = None,
    baseline: bool = True,
    lr: float | None = None,
    overrides: dict[str, Any] | str | None = None,
    settings: str | None = None,
    **more: Any,
) -> list[Config]:
    """The run that a notebook's parameters describe and, with `baseline`, the plain one on the same tasks and steps.

    Plain is SGD (RL: Adam) without interventions, with the benchmark's settings for it.

    config: path of a config file; its values hold wherever no parameter is given. Without one, the default is Sassha
    on `permuted_digits`. algos: names or sections, or names separated by commas. overrides: by dotted path, or
    `a.b=1, c.d=2`. settings: a study's folder, or `best`, whose chosen settings are used (`lop.chosen`), by the plain
    run too where the study has it. more: num_tasks and dataset of the benchmark, and any key of the config's `run`;
    None means: as in the config. Raises UserError for anything that cannot run.
    """
    for name, text in (("optimizer", optimizer), ("settings", settings)):
        if text is not None and not isinstance(text, str):
            raise UserError(f"expected a name, got {shown(text)}", option=name, joint=": ")
    if config is None:
        optimizer, benchmark = optimizer or "sassha", benchmark or "permuted_digits"
    if not isinstance(baseline, bool):
        raise UserError(f"expected true or false, got {shown(baseline)}", option="baseline", joint=": ")
    shared, given = by_path(more), _overrides(overrides)
    tuned = {} if settings is None else {"optimizer.settings": settings}
    own = {**tuned, **shared, **({} if lr is None else {"optimizer.lr": lr}), **given}
    chosen = make_config(config, benchmark=benchmark, optimizer=optimizer, algos=_sections(algos), overrides=own)
    if not baseline:
        return [chosen]
    method = ("optimizer", "algos")
    same = {key: value for key, value in {**shared, **given}.items() if key.split(".")[0] not in method}
    standard = BENCHMARKS[chosen.benchmark.name].optimizer
    try:
        plain = make_config(config, benchmark=benchmark, optimizer=standard, algos=[], overrides={**tuned, **same})
    except UserError:
        if not tuned:
            raise
        plain = make_config(config, benchmark=benchmark, optimizer=standard, algos=[], overrides=same)
    return [chosen] if plain.run_name() == chosen.run_name() else [chosen, plain]


def members(
    config: Config, *, seeds: int | str | Sequence[int] | None = None, vary: Mapping[str, Sequence[float]] | None = None
) -> list[Config]:
    """A config for every combination of numbers and every seed, seeds innermost; each what a single run has.

    seeds: `0-15`, `0,3,7-9` or a list; None: the config's `run.seeds`, or its `run.seed`. vary: numbers by dotted path.
    Raises UserError, naming the key, for values that cannot run and for runs that would be the same.
    """
    try:
        numbers = seeds_of(seeds) if seeds is not None else config.run.seeds or [config.run.seed]
    except ValueError as error:
        raise UserError(f"{error}, got {shown(seeds)}", option="seeds", joint=": ") from None
    axes = {path: _numbers(path, values) for path, values in (vary or {}).items()}
    size = len(numbers) * math.prod(len(values) for values in axes.values())
    if size > MOST_MEMBERS:
        raise UserError(f"{size} runs; at most {MOST_MEMBERS} at once", option="seeds", joint=": ")
    if config.run.name and size > 1:
        raise UserError("one name for several runs; leave it out", option="run.name", joint=": ")
    data, found = override(config.model_dump(mode="json"), "run.seeds", None), []
    for values in itertools.product(*axes.values()):
        setting = data
        for path, value in zip(axes, values, strict=True):
            setting = override(setting, path, value)
        found += [resolve(override(setting, "run.seed", seed)) for seed in numbers]
    if len({member.run_name() for member in found}) < len(found):
        raise UserError("two of the runs are the same; give every number once", option="vary", joint=": ")
    return found


def _numbers(path: str, values: Any) -> list[float]:
    listed = list(values) if isinstance(values, list | tuple) else [values]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in listed)
    if not listed or not numeric or path.split(".")[0] == "run":
        what = "optimizer.lr=0.01,0.03 (seeds by their own option)"
        raise UserError(f"expected numbers of the method, e.g. {what}, got {shown(values)}", option=path, joint=": ")
    return listed


def by_path(settings: dict[str, Any]) -> dict[str, Any]:
    """A notebook's parameters by their path in the config: num_tasks and dataset are the benchmark's, others the run's.

    Without those that are None; on Kaggle the folders that are not given are Kaggle's.
    """
    if place() == "kaggle":
        folders = {"results_dir": kaggle_folder("working") / "results", "data_dir": kaggle_folder("input")}
        settings = {**settings, **{name: settings.get(name) or str(path) for name, path in folders.items()}}
    section = {"num_tasks": "benchmark", "dataset": "benchmark"}
    return {f"{section.get(name, 'run')}.{name}": value for name, value in settings.items() if value is not None}


def _sections(algos: Sequence[str | dict[str, Any]] | str) -> list[dict[str, Any]] | None:
    if isinstance(algos, str):
        algos = parse_value(algos, "algos") if algos.lstrip()[:1] in ("[", "{") else algos.split(",")
    if not isinstance(algos, list | tuple):
        raise UserError(f"expected names or sections, got {shown(algos)}", option="algos", joint=": ")
    sections = [{"name": algo.strip()} if isinstance(algo, str) else algo for algo in algos if algo]
    return sections or None


def _overrides(given: dict[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(given, str) and given.lstrip()[:1] == "{":
        given = parse_value(given, "overrides")
    if isinstance(given, str):
        items = [item for item in re.split(r",\s*(?=[\w.]+=)", given) if item.strip()]
        return dict(parse_override(item, "overrides: ") for item in items)
    if given is not None and not (isinstance(given, dict) and all(isinstance(path, str) for path in given)):
        raise UserError(f"expected values by dotted path, got {shown(given)}", option="overrides", joint=": ")
    return dict(given or {})
