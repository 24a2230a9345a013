"""Random configs, valid and broken: each runs, or is refused in one line that names a key; never another exception.

python tests/robustness/fuzz.py --examples 2000
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import micro
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from lop.algos import INTERVENTIONS
from lop.config import Config
from lop.metrics import Dashboard
from lop.metrics.registry import METRICS
from lop.nets import NETS
from lop.nets.activations import ACTIVATIONS
from lop.nets.init import SCHEMES
from lop.optimizers import list_optimizers, optimizer_options
from lop.plan import BENCHMARKS, make_config
from lop.runner import run
from lop.utils.errors import UserError
from lop.utils.options import default_options

LOOKS = 6  # steps (in reinforcement learning: updates) that a run is left to make
KEYS = re.compile(r"\b(benchmark|net|optimizer|algos|metrics|run|config)(\.\w|:)")

numbers = st.one_of(
    st.sampled_from([0, 1, 2, 3, -1, 0.0, 0.5, 1.0, -0.5, 1e-8, 1e-300, 1e30, 1e308, 10**9, 10**18, 10**40]),
    st.integers(-3, 12),
    st.floats(0, 2, allow_subnormal=False),
    st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)
words = st.one_of(
    st.sampled_from(
        ["", "auto", "relu", "sgd", "adam", "1e-4", "nan", "true", "../x", "weight", "\x00", "a\nb", "ü", "\ud800"]
    ),
    st.sampled_from([*BENCHMARKS, *NETS, *INTERVENTIONS, *METRICS, *ACTIVATIONS, *SCHEMES]),
    st.text(max_size=5),
)
scalars = st.one_of(numbers, numbers, words, st.booleans(), st.none())
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def values_like(draw, default: Any, wild: bool) -> Any:
    """A value near the default or, when wild, any of its kind and now and then anything."""
    if not wild:
        if isinstance(default, bool):
            return draw(st.booleans())
        if isinstance(default, int):
            return default + draw(st.integers(0, 2))
        return default * draw(st.sampled_from([0.5, 0.99, 1.0])) if isinstance(default, float) else default
    if draw(st.integers(0, 7)) == 0:
        return draw(junk)
    if isinstance(default, bool):
        return draw(st.booleans())
    if isinstance(default, int | float):
        return draw(st.sampled_from([default, default * 2, default / 2, 0, 1, 2]) | numbers)
    if isinstance(default, str):
        return draw(st.just(default) | words)
    if isinstance(default, list | tuple):
        entries = st.integers(0, 5) | st.floats(0, 1, allow_subnormal=False)
        return draw(st.lists(entries, max_size=4) | st.just(list(default)))
    return draw(st.none() | numbers | words)


@st.composite
def with_options(draw, section: dict[str, Any], known: dict[str, Any], wild: bool, most: int = 3) -> dict[str, Any]:
    section, known = dict(section), {**known, **{key: section[key] for key in section if key in known}}
    for key in draw(st.lists(st.sampled_from(sorted(known)), max_size=most, unique=True)) if known else ():
        section[key] = draw(values_like(known[key], wild))
    return section


@st.composite
def configs(draw, data_dir: Path, results_dir: Path) -> dict[str, Any]:
    """The dict of a config over all registries, with a mistake in some."""
    wild = draw(st.sampled_from([False, True]))
    benchmark, optimizer = draw(st.sampled_from(micro.NAMES)), draw(st.sampled_from(list_optimizers()))
    data = micro.micro_data(benchmark, data_dir, results_dir, optimizer)
    known = default_options(BENCHMARKS[benchmark].stream)
    data["benchmark"] = draw(with_options(data["benchmark"], known, wild, most=2))
    if wild and draw(st.integers(0, 5)) == 0:
        data["net"] = {"name": draw(st.sampled_from(sorted(NETS)))}
    data["net"] = draw(with_options(data["net"], default_options(NETS[data["net"]["name"]]), wild, most=2))
    defaults = {n: p.default for n, p in optimizer_options(optimizer).items()}
    data["optimizer"] = draw(with_options(data["optimizer"], defaults, wild))
    for name in draw(st.lists(st.sampled_from(sorted(INTERVENTIONS)), max_size=3)):
        data["algos"].append(draw(with_options({"name": name}, default_options(INTERVENTIONS[name]), wild)))
    data["metrics"] = draw(with_options(data["metrics"], default_options(Dashboard), wild, most=2))
    if draw(st.integers(0, 3)) == 0:
        data["metrics"]["extras"] = [
            draw(with_options({"name": name}, default_options(METRICS[name].options), wild, most=2))
            for name in draw(st.lists(st.sampled_from(sorted(METRICS)), max_size=3))
        ]
    run_defaults = {k: f.default for k, f in type(Config.model_fields["run"].default).model_fields.items()}
    run_defaults = {k: v for k, v in run_defaults.items() if k not in ("results_dir", "data_dir", "threads", "resume")}
    data["run"] = draw(with_options(data["run"], run_defaults, wild, most=2))
    if wild and draw(st.booleans()):
        mutate(draw, data)
    return data


def mutate(draw, data: dict[str, Any]) -> None:
    """A wrong key, a wrong value or a missing part somewhere."""
    node: Any = data
    while True:
        children = list(node.values()) if isinstance(node, dict) else node
        deeper = [child for child in children if isinstance(child, dict | list) and child]
        if not deeper or draw(st.booleans()):
            break
        node = draw(st.sampled_from(deeper))
    keys = sorted(node, key=str) if isinstance(node, dict) else list(range(len(node)))
    kept = ("results_dir", "data_dir")
    keys = [key for key in keys if key not in kept] or ["new"]
    kind = draw(st.sampled_from(["value", "delete", "rename", "new"]))
    if kind == "new" and isinstance(node, dict):
        node[draw(words)] = draw(junk)
        return
    key = draw(st.sampled_from(keys))
    if kind == "value" or key == "new":
        if isinstance(node, dict) and not (node is data and key == "run"):
            node[key] = draw(junk)
    elif not (node is data and key == "run"):
        value = node.pop(key)
        if kind == "rename" and isinstance(node, dict):
            node[str(key)[:-1] + "x"] = value


SIZES = {
    "hidden": 16,
    "channels": 8,
    "kernel_sizes": 8,
    "width": 4,
    "blocks": 2,
    "reference_size": 64,
    "ntk_size": 32,
    "n_samples": 3,
    "max_iter": 3,
    "max_eval": 3,
    "ns_steps": 6,
    "history_size": 10,
    "flip_every": 2000,
    "target_units": 100,
    "num_inputs": 50,
    "num_envs": 4,
    "env_threads": 2,
    "rollout_steps": 64,
    "epochs": 10**4,
    "resize": 40,
}


def capped(config: Config) -> Config:
    """A checked config that asks for no more than a micro-run: the same names and options, smaller sizes."""
    config = config.model_copy(deep=True)
    for section in (config.benchmark, config.net, config.optimizer):
        for key, value in (section.model_extra or {}).items():
            section.model_extra[key] = _capped(key, value)
    if config.benchmark.name.startswith("rl_"):
        config.benchmark.model_extra["epochs"] = min(config.benchmark.options["epochs"], 4)
        config.benchmark.model_extra["minibatches"] = min(config.benchmark.options["minibatches"], 8)
    config.metrics = {key: _capped(key, value) for key, value in config.metrics.items()}
    if "extras" in config.metrics:
        config.metrics["extras"] = [{**section, **_FEW_STEPS.get(section["name"], {})} for section in _sections(config)]
    for algo in config.algos:
        for key, value in (algo.model_extra or {}).items():
            algo.model_extra[key] = _capped(key, value)
    config.run.threads = None
    return config


_FEW_STEPS = {"trainability": {"steps": 3}}


def _sections(config: Config) -> list[dict[str, Any]]:
    return [{"name": extra} if isinstance(extra, str) else extra for extra in config.metrics["extras"]]


def _capped(key: str, value: Any) -> Any:
    most = SIZES.get(key)
    if most is None:
        return value
    if isinstance(value, list | tuple):
        return [min(item, most) for item in value[:4]]
    return min(value, most) if isinstance(value, int) else value


class FaultError(AssertionError):
    """A config that neither ran nor was refused as it should."""


def attempt(data: dict[str, Any]) -> str:
    """ "ran" or "refused". Raises FaultError with the config for anything else."""
    looks = [0]

    def due(request) -> bool:
        looks[0] += 1
        request.reason = "enough" if looks[0] % LOOKS == 0 else None
        return request.reason is not None

    folder = Path(data["run"]["results_dir"]) if isinstance(data.get("run"), dict) else Path()
    path = folder / "config.json"
    path.write_text(json.dumps(data))
    where = "config"
    try:
        with warnings.catch_warnings(), mock.patch("lop.training.stopping.StopRequest.due", due):
            warnings.simplefilter("ignore")
            config = capped(make_config(path))
            where = "run"
            for _ in range(2):  # the second goes on where the first was stopped
                if run(config, summaries=False).status != "interrupted":
                    break
        return "ran"
    except UserError as error:
        message = str(error)
        named = KEYS.search(message) or message.split(":")[0].split(".")[0] in data
        if len(message.splitlines()) != 1 or not named:
            raise FaultError(f"{where}: refused without naming a key: {message!r}\n{json.dumps(data)}") from None
        return "refused"
    except Exception:
        raise FaultError(f"{where}: {traceback.format_exc()}\n{json.dumps(data)}") from None


def fuzz(examples: int, seed: int, folder: Path, *, keep_going: bool = False) -> tuple[Counter, list[str]]:
    """Try so many configs. Returns the counts and the faults; with keep_going one per kind, without shrinking."""
    data_dir = micro.write_data(folder / "data")
    counts: Counter = Counter()
    faults: dict[str, str] = {}

    @hypothesis_seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def one(source) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as results:
            data = source.draw(configs(data_dir, Path(results)))
            counts["tried"] += 1
            try:
                counts[attempt(copy.deepcopy(data))] += 1
            except FaultError as fault:
                if not keep_going:
                    raise
                counts["faults"] += 1
                faults.setdefault(_kind(str(fault)), str(fault))

    one()
    return counts, list(faults.values())


def _kind(fault: str) -> str:
    lines = fault.splitlines()
    return lines[0] if "without naming" in lines[0] else "\n".join(lines[-4:-1])[:200]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = fuzz(options.examples, options.seed, Path(folder), keep_going=True)
    for fault in faults:
        print(fault, end="\n\n")
    print(json.dumps(counts))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
