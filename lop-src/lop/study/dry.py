"""What a study would train, how long and in how much memory, from a few timed steps."""

from __future__ import annotations

from dataclasses import dataclass

from lop.capacity import run_bytes
from lop.config import Config
from lop.executors import make_executor, populations
from lop.executors.progress import in_words
from lop.pace import TimedPopulation
from lop.plan import BENCHMARKS
from lop.runs import run_folder_of
from lop.study.driver import is_tuned
from lop.study.scores import ended
from lop.study.spec import Case, Study
from lop.utils.devices import kept_threads
from lop.utils.errors import UserError

STEPS, SECONDS = 20, 2.0  # of a timing, whatever comes first
MB = 1e6


@dataclass(frozen=True)
class Estimate:
    """One case. runs, done: tuning and evaluation together, without extensions. seconds: of one process for what is
    left, None where it cannot be timed here; bytes: of one run."""

    case: Case
    runs: int
    done: int
    populations: int
    seconds: float | None
    bytes: int | None
    problem: str = ""


class DryRun:
    """Builds the first population of every case, takes a few steps, and trains nothing."""

    def __init__(self, study: Study):
        self.study = study
        self.estimates = [self._estimate(case) for case in study.cases]

    def _estimate(self, case: Case) -> Estimate:
        settings = case.settings() if is_tuned(case) else []
        configs = [case.make(setting, seed, True) for setting in settings for seed in self.study.tuning_seeds]
        configs += [case.make(case.settings()[0], seed, False) for seed in self.study.evaluation_seeds]
        left = [config for config in configs if not ended(run_folder_of(config))]
        together = populations(left)
        seconds, size, problem = 0.0, None, ""
        try:
            for group in {len(group): group for group in together}.values():
                own = [one for one in together if len(one) == len(group)]
                seconds += _seconds(group) * len(own)
                size = size or _bytes(group[0])
        except UserError as error:
            return Estimate(case, len(configs), len(configs) - len(left), len(together), None, None, str(error))
        return Estimate(case, len(configs), len(configs) - len(left), len(together), seconds, size, problem)

    def text(self) -> str:
        """A line per case, and what all of it takes."""
        lines = [self._line(estimate) for estimate in self.estimates]
        runs, done = sum(one.runs for one in self.estimates), sum(one.done for one in self.estimates)
        known = [one.seconds for one in self.estimates if one.seconds is not None]
        executor = make_executor(self.study.executor)
        parallel = getattr(executor, "parallel", 1)
        extra = self.study.budget - min(len(one.case.settings()) for one in self.estimates)
        lines.append(
            f"{runs} runs, {done} of them done; about {in_words(sum(known))} of one process, "
            f"{in_words(sum(known) / parallel)} in {parallel} at once, diagnostics left out"
        )
        if len(known) < len(self.estimates):
            lines.append("without the cases that could not be timed")
        if extra and self.study.extend:
            lines.append(f"more where the best value is at a grid's edge: at most {self.study.budget} settings each")
        return "\n".join(lines)

    def _line(self, one: Estimate) -> str:
        text = f"{one.case.name}: {one.runs} runs, {one.done} done, {one.populations} populations to train"
        if one.problem:
            return f"{text}; cannot be built here: {one.problem}"
        if one.seconds is None or not one.populations:
            return text
        return f"{text}, {in_words(one.seconds)}, {(one.bytes or 0) / MB:.1f} MB a run"


def _bytes(config: Config) -> int | None:
    return None if BENCHMARKS[config.benchmark.name].kind == "control" else run_bytes(config)


def _seconds(configs: list[Config]) -> float:
    """Of the whole training of this population in one process, from a few steps of its first task."""
    with kept_threads():
        timed = TimedPopulation(configs)
        return timed.step_seconds(SECONDS, STEPS) * timed.steps
