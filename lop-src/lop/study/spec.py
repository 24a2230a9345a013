"""What a study is: the sections of its file as they are written, and the checked study that is made of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lop.config import Config

Setting = dict[str, Any]  # values by dotted path


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """benchmark: by name, or config: a file. set: keys of the config by dotted path."""

    benchmark: str | None = None
    config: str | None = None
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """tune: by dotted path the values to try. only: the benchmarks of the study that it is run on; None: all."""

    optimizer: str
    algos: list[str | dict[str, Any]] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    tune: dict[str, Any] = field(default_factory=dict)
    only: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """budget: at most so many settings of each method, extensions included; default: the largest grid and them.

    extend: how often a grid whose best value is at its edge may grow. set: keys of the tuning runs alone, e.g. fewer
    tasks. select: by mean online performance over all tasks, or over the late ones.
    """

    seeds: str | int | list[int] = "100-101"
    select: str = "online_accuracy"
    budget: int | None = None
    extend: int = 2
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """set: keys of the evaluation runs alone."""

    seeds: str | int | list[int] = "0-4"
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """The sections of the file as they are written. drawn: the methods that are drawn over the tasks; None: all."""

    benchmarks: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    tuning: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None
    drawn: list[str] | None = None
    results_dir: str = "results/study"
    executor: str | dict[str, Any] = "local"
    threads: int = 1
    plugins: list[str] = field(default_factory=list)
    keep_checkpoints: bool = False


@dataclass(frozen=True)
class Case:
    """One method on one benchmark. axes: the values to try at first, by dotted path."""

    benchmark: str
    method: str
    axes: dict[str, list[Any]]
    make: Callable[[Setting, int, bool], Config]

    @property
    def name(self) -> str:
        return f"{self.method} on {self.benchmark}"

    def settings(self) -> list[Setting]:
        """Every combination of the values; one empty setting where nothing is tuned."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]


@dataclass(frozen=True)
class Study:
    """A checked study. cases: in the order of the file, benchmark by benchmark. reference: whom to compare with."""

    name: str
    cases: list[Case]
    reference: str
    drawn: list[str]
    tuning_seeds: list[int]
    evaluation_seeds: list[int]
    select: str
    budget: int
    extend: int
    results_dir: Path
    executor: str | dict[str, Any]
    keep_checkpoints: bool
    methods: dict[str, MethodSpec]

    @property
    def runs_dir(self) -> Path:
        return self.results_dir / "runs"

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(case.benchmark for case in self.cases))
