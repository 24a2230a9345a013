"""What a study's file says, checked: every mistake is one line that names the key."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lop.config import Config, read_file
from lop.executors import make_executor
from lop.plan import make_config
from lop.runs import results_folder
from lop.study.spec import BenchmarkSpec, Case, Evaluation, MethodSpec, Setting, Study, StudyFile, Tuning
from lop.utils.errors import UserError, near_matches, shown
from lop.utils.options import check_options
from lop.utils.ranges import COUNT, COUNT_OR_ZERO, require, require_choice, seeds_of
from lop.utils.registry import load_plugin

NAME = re.compile(r"[\w.+=-]+")
SELECT = ("online_accuracy", "late_accuracy")
MOST_POINTS = 1000  # of one axis


def read_study(path: str | Path) -> Study:
    """The study of a YAML or JSON file. Raises UserError for anything wrong, before anything is trained."""
    data = read_file(path, "study file", "benchmarks, methods, tuning, ...")
    return make_study(data, Path(path).stem)


def make_study(data: dict[str, Any], name: str = "study") -> Study:
    """The study of a dict; see `read_study`."""
    given = StudyFile(**_known("", StudyFile, data))
    require(COUNT, threads=given.threads)
    tuning = Tuning(**_known("tuning", Tuning, given.tuning))
    evaluation = Evaluation(**_known("evaluation", Evaluation, given.evaluation))
    benchmarks = {
        key: BenchmarkSpec(**_known(f"benchmarks.{key}", BenchmarkSpec, one))
        for key, one in _named(given.benchmarks, "benchmarks").items()
    }
    methods = {
        key: MethodSpec(**_known(f"methods.{key}", MethodSpec, one))
        for key, one in _named(given.methods, "methods").items()
    }
    for key, spec in benchmarks.items():
        if (spec.benchmark is None) == (spec.config is None):
            raise UserError("give a benchmark's name or a config's path", option=f"benchmarks.{key}", joint=": ")
    for key, method in methods.items():
        for one in method.only or []:
            if one not in benchmarks:
                problem = f"unknown benchmark {shown(one)}; {near_matches(one, benchmarks)}"
                raise UserError(problem, option=f"methods.{key}.only", joint=": ")
    seeds = _seeds("tuning.seeds", tuning.seeds), _seeds("evaluation.seeds", evaluation.seeds)
    if both := sorted(set(seeds[0]) & set(seeds[1])):
        problem = f"seed {both[0]} is a tuning seed, too: what was chosen on it cannot be judged on it"
        raise UserError(problem, option="evaluation.seeds", joint=": ")
    require(COUNT_OR_ZERO, **{"tuning.extend": tuning.extend})
    require(COUNT, **{"tuning.budget": tuning.budget})
    require_choice(SELECT, **{"tuning.select": tuning.select})
    make_executor(given.executor)
    plugins = [_plugin(one) for one in given.plugins]
    results_dir = results_folder(given.results_dir)
    shared = {"run.threads": given.threads, **({"run.plugins": plugins} if plugins else {}), **given.set}
    shared["run.results_dir"] = str(results_dir / "runs")
    cases = []
    for where, benchmark in benchmarks.items():
        for key, method in methods.items():
            if method.only is not None and where not in method.only:
                continue
            make = _maker(where, benchmark, key, method, shared, tuning, evaluation)
            axes = {path: _axis(f"methods.{key}.tune.{path}", values) for path, values in method.tune.items()}
            cases.append(Case(where, key, axes, make))
    largest = max((len(case.settings()) for case in cases), default=1)
    budget = tuning.budget or largest + tuning.extend
    for case in cases:
        if (size := len(case.settings())) > budget:
            problem = f"{size} settings, and tuning.budget is {budget} for every method"
            raise UserError(problem, option=f"methods.{case.method}.tune", joint=": ")
        for setting in case.settings():
            case.make(setting, seeds[0][0], True)
        case.make(case.settings()[0], seeds[1][0], False)
    reference = given.reference or next(iter(methods))
    if reference not in methods:
        problem = f"no such method, {shown(reference)}; {near_matches(reference, methods)}"
        raise UserError(problem, option="reference", joint=": ")
    for one in given.drawn or []:
        if one not in methods:
            raise UserError(f"no such method, {shown(one)}; {near_matches(one, methods)}", option="drawn", joint=": ")
    return Study(
        name=name,
        cases=cases,
        reference=reference,
        drawn=given.drawn or list(methods),
        tuning_seeds=seeds[0],
        evaluation_seeds=seeds[1],
        select=tuning.select,
        budget=budget,
        extend=tuning.extend,
        results_dir=results_dir,
        executor=given.executor,
        keep_checkpoints=given.keep_checkpoints,
        methods=methods,
    )


def _known(path: str, part: Any, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UserError(f"expected a mapping, got {shown(data)}", option=path, joint=": ")
    return check_options(path, part, data)


def _named(section: dict[str, Any], path: str) -> dict[str, Any]:
    if not section:
        raise UserError("name at least one", option=path, joint=": ")
    for name in section:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(f"{shown(name)} is no name: letters, digits and _ . + = -", option=path, joint=": ")
    return section


def _seeds(path: str, given: Any) -> list[int]:
    try:
        return seeds_of(given)
    except ValueError as error:
        raise UserError(f"{error}, got {shown(given)}", option=path, joint=": ") from None


def _plugin(name: str) -> str:
    """The path of a file in full: other processes and machines look for it there. It is imported here, too."""
    load_plugin(name)
    return str(Path(name).expanduser().resolve()) if name.endswith(".py") else name


def _axis(path: str, values: Any) -> list[Any]:
    """The values of one axis: a list as it is, or `{low, high, points, scale: log or linear}`."""
    if isinstance(values, dict):
        spread = _known(path, _spread, values)
        try:
            return _spread(**spread)
        except UserError as error:
            raise error.within(path) from None
    listed = list(values) if isinstance(values, list | tuple) else []
    if not listed:
        raise UserError(
            f"expected a list of values, or low, high and points, got {shown(values)}", option=path, joint=": "
        )
    if any(listed.count(value) > 1 for value in listed):
        raise UserError("give every value once", option=path, joint=": ")
    return listed


def _spread(*, low: float, high: float, points: int, scale: str = "log") -> list[float]:
    require_choice(("log", "linear"), scale=scale)
    require(COUNT, points=points)
    if points > MOST_POINTS or points < 2 or not low < high or (scale == "log" and low <= 0):
        raise UserError(f"2 to {MOST_POINTS}, and low < high, above zero where the scale is log", option="points")
    steps = [i / (points - 1) for i in range(points)]
    if scale == "linear":
        return [rounded(low + (high - low) * step) for step in steps]
    return [rounded(math.exp(math.log(low) + math.log(high / low) * step)) for step in steps]


def seeds_text(seeds: list[int]) -> str:
    """`100-101`, `0,3,7-9`: as seeds are written in a file."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][1] + 1:
            parts[-1][1] = seed
        else:
            parts.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def rounded(value: float) -> float:
    """To three digits: what people can read, and the same on every machine."""
    return float(f"{value:.3g}")


def _maker(
    where: str,
    benchmark: BenchmarkSpec,
    key: str,
    method: MethodSpec,
    shared: dict[str, Any],
    tuning: Tuning,
    evaluation: Evaluation,
) -> Callable[[Setting, int, bool], Config]:
    """make(setting, seed, whether it is for tuning): a run's config. Raises UserError with method and benchmark."""
    built: dict[str, Config] = {}

    def make(setting: Setting, seed: int, tunes: bool) -> Config:
        own = {"run.diagnostics": False, **tuning.set} if tunes else evaluation.set
        overrides = {**shared, **benchmark.set, **method.set, **own, **setting}
        text = repr((setting, tunes))
        try:
            if text not in built:
                built[text] = make_config(
                    benchmark.config,
                    benchmark=benchmark.benchmark,
                    optimizer=method.optimizer,
                    algos=method.algos,
                    overrides=overrides,
                )
        except UserError as error:
            raise UserError(f"{error} (on {where})", option=f"methods.{key}", joint=": ") from None
        config = built[text]
        return config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})})

    return make
