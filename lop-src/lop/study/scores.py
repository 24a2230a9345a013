"""What the runs of a study scored: read from their folders, with a diverged run at chance and none left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lop.config import Config
from lop.experiment import make_stream
from lop.plan import BENCHMARKS
from lop.runs import ENDED, Results, load, read_status
from lop.runs.statistics import early_late
from lop.utils.devices import find_device
from lop.utils.errors import UserError
from lop.viz.measures import Measure, performance

TABLES = ("tasks", "online", "timing")
TARGETS = 10_000  # of a regression, whose variance is chance


@dataclass
class Score:
    """One run that has ended. values: online performance of every task, chance where there is none.

    shares: cumulative steps at the end of each bin of a task over all of its steps, and the performance in that bin,
    task by task. test: after the late tasks. seconds: of training per task, without the diagnostics. diverged: tasks in
    which it has.
    """

    folder: Path
    state: str
    measure: Measure
    values: np.ndarray
    bins: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    test: float = math.nan
    seconds: float = math.nan
    diverged: int = 0

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Mean over the early and over the late tasks."""
        return early_late(list(self.values))

    @property
    def early(self) -> float:
        return self.ends[0]

    @property
    def late(self) -> float:
        return self.ends[1]

    def within(self, share: float) -> float:
        """Mean over tasks of the performance in the first share of a task's steps, bins cut where the share ends."""
        if share >= 1 or not self.bins:
            return self.mean
        return float(np.mean([_first_part(*bins, share) for bins in self.bins]))


def _first_part(ends: np.ndarray, values: np.ndarray, share: float) -> float:
    lengths = np.diff(np.concatenate([[0.0], ends]))
    taken = np.clip(share - (ends - lengths), 0, lengths)
    return float((taken * values).sum() / taken.sum())


def ended(folder: Path) -> bool:
    """Whether a run is over. Of a damaged status: no, and the run itself says so."""
    try:
        return read_status(folder).get("state") in ENDED
    except UserError:
        return False


class Scores:
    """The scores of all runs that have ended, by run folder; a folder is read once.

    Where a task is missing or not finite, the run has diverged: it counts as chance there. Chance: one over the active
    classes; of a regression the variance of its targets; in reinforcement learning the worst return of any run here.
    """

    def __init__(self) -> None:
        self._known: dict[Path, Score] = {}
        self._chance: dict[str, np.ndarray] = {}

    def read(self, configs: Iterable[Config], folders: Iterable[Path]) -> dict[Path, Score]:
        """The scores of these runs, those that have ended."""
        wanted = {folder: config for folder, config in zip(folders, configs, strict=True) if ended(folder)}
        new = [folder for folder in wanted if folder not in self._known]
        if new:
            self._read(new, wanted)
        return {folder: self._known[folder] for folder in wanted}

    def _read(self, folders: Sequence[Path], configs: dict[Path, Config]) -> None:
        results = load(*folders, tables=TABLES)
        states = dict(zip(results.runs["folder"], results.runs["state"], strict=True))
        tables = {name: _by_run(getattr(results, name)) for name in TABLES}
        parts = {folder: {name: tables[name].get(folder.name) for name in TABLES} for folder in folders}
        for benchmark in dict.fromkeys(_stream_key(configs[folder]) for folder in folders):
            same = [folder for folder in folders if _stream_key(configs[folder]) == benchmark]
            measure = _measure(results, [folder.name for folder in same], configs[same[0]])
            for folder in same:
                own = parts[folder]
                length = _length(configs[folder], own["tasks"])
                self._known[folder] = self._score(folder, states[str(folder)], measure, own, length, configs[folder])

    def _score(
        self,
        folder: Path,
        state: str,
        measure: Measure,
        tables: dict[str, pd.DataFrame | None],
        length: int,
        config: Config,
    ) -> Score:
        tasks, online, timing = (tables[name] for name in TABLES)
        values = np.full(length, np.nan)
        score = Score(folder, state, measure, values)
        if tasks is not None:
            values[tasks["task"].to_numpy(int)] = tasks[measure.column].to_numpy(float)
            score.diverged = int((tasks["diverged_step"] >= 0).sum()) if "diverged_step" in tasks else 0
            if "test_acc_after" in tasks:
                test = np.full(length, np.nan)
                test[tasks["task"].to_numpy(int)] = tasks["test_acc_after"].to_numpy(float)
                score.test = early_late(list(test))[1]
        lost = ~np.isfinite(values)
        if lost.any():
            chance = self.chance(config, length, measure)
            values[lost] = chance[lost]
            score.diverged = max(score.diverged, int(lost.sum()))
            if state == "diverged":
                score.test = math.nan if not measure.unit else float(chance[-1])
        if online is not None and not lost.any():
            score.bins = _bins(online, measure.column.removeprefix("online_"))
        if timing is not None:
            score.seconds = float((timing["seconds"] - timing["diagnostics_seconds"]).mean())
        return score

    def chance(self, config: Config, length: int, measure: Measure) -> np.ndarray:
        """Of every task what a learner without knowledge scores."""
        key = _stream_key(config)
        if key not in self._chance:
            self._chance[key] = _chance(config, length, measure, list(self._known.values()))
        return self._chance[key]


def _stream_key(config: Config) -> str:
    return repr(config.benchmark.model_dump(mode="json"))


def _by_run(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {} if table.empty else {str(name): rows for name, rows in table.groupby("run", sort=False)}


def _measure(results: Results, runs: Sequence[str], config: Config) -> Measure:
    tasks = results.tasks
    here = tasks[tasks["run"].isin(set(runs))] if len(tasks) else tasks
    if len(here):
        return performance(here)
    kind = BENCHMARKS[config.benchmark.name]  # all of them diverged before the first task's end
    column = "online_return" if kind.kind == "control" else "online_accuracy"
    return performance(pd.DataFrame({column: [0.0]}))


def _length(config: Config, tasks: pd.DataFrame | None) -> int:
    planned = config.benchmark.options.get("num_tasks")
    done = 0 if tasks is None else int(tasks["task"].max()) + 1
    return max(planned, done) if isinstance(planned, int) else max(done, 1)


def _bins(online: pd.DataFrame, column: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """By task: where each bin ends, as a share of the task's steps, and the performance in it."""
    if column not in online:
        return []
    rows = online[["task", "bin", "step", column]].to_numpy(float)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    found, before = [], 0.0
    for one in np.split(rows, np.flatnonzero(np.diff(rows[:, 0])) + 1):
        ends, values = one[:, 2] - before, one[:, 3]
        before = float(one[-1, 2])
        if len(ends) and ends[-1] > 0 and np.isfinite(values).all():
            found.append((ends / ends[-1], values))
    return found


def _chance(config: Config, length: int, measure: Measure, others: Sequence[Score]) -> np.ndarray:
    if BENCHMARKS[config.benchmark.name].kind == "control":
        known = [score.values for score in others if score.measure == measure]
        finite = np.concatenate([np.asarray(one)[np.isfinite(one)] for one in known] or [np.zeros(1)])
        return np.full(length, finite.min() if len(finite) else 0.0)
    device = find_device(config.run.device)
    stream = make_stream(config.benchmark.name, config.benchmark.options, config.run.seed, config.run.data_dir, device)
    if stream.loss == "cross_entropy":
        active = [stream.task(k).active for k in range(length)]
        return np.array([1.0 / (stream.num_outputs if one is None else len(one)) for one in active])
    _, targets = stream.task(0).reference(TARGETS)
    return np.full(length, float(targets.double().var(0, correction=0).mean()))
