"""The course of a study: tune, extend, choose, evaluate. All that is known stands in the run folders.

The same command again reads what is there and trains what is missing, wherever it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from lop.algos import INTERVENTIONS
from lop.config import Config
from lop.executors import ELSEWHERE, Executor, Outcome, job_of, make_executor, populations, train
from lop.executors.progress import write_facts
from lop.optimizers import get_optimizer
from lop.runs import run_folder_of
from lop.study.scores import Score, Scores, ended
from lop.study.spec import Case, Setting, Study
from lop.study.tuning import Tried, best, edges, extension, selected
from lop.study.view import LiveView
from lop.utils.files import make_folder

Report = Callable[[str], None]


def say(line: str) -> None:
    """At once, also into a file."""
    print(line, flush=True)


@dataclass(frozen=True)
class Trial:
    """One run of a study. tunes: for tuning, else for the evaluation."""

    case: Case
    setting: Setting
    seed: int
    tunes: bool
    config: Config
    folder: Path


@dataclass
class CaseResult:
    """What is known of one method on one benchmark. chosen: None: not chosen yet, or no setting could be trained.

    edges: axes on which the chosen value is at the edge of what was tried. extensions: how often the grid has grown.
    """

    case: Case
    settings: list[Setting]
    tried: list[Tried] = field(default_factory=list)
    chosen: Tried | None = None
    edges: dict[str, str] = field(default_factory=dict)
    extensions: int = 0


@dataclass
class StudyResult:
    """scores: of every run that has ended. failed: why others have not. complete: nothing is left to train or to mend.

    trials: all runs that were asked for, by case, setting, seed and purpose; two of them can be one run. made: these
    and others whose config was looked at.
    """

    study: Study
    cases: list[CaseResult]
    trials: dict[tuple, Trial] = field(default_factory=dict)
    made: dict[tuple, Trial] = field(default_factory=dict)
    scores: dict[Path, Score] = field(default_factory=dict)
    failed: dict[Path, Outcome] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        return not self.interrupted and not self.failed

    def evaluated(self, case: CaseResult) -> dict[int, Score]:
        """The scores of a case's evaluation runs, by seed."""
        if case.chosen is None:
            return {}
        trials = [self.trial(case.case, case.chosen.setting, seed, False) for seed in self.study.evaluation_seeds]
        return {trial.seed: self.scores[trial.folder] for trial in trials if trial.folder in self.scores}

    def trial(self, case: Case, setting: Setting, seed: int, tunes: bool) -> Trial:
        """The run of a case with a setting and a seed."""
        key = case.benchmark, case.method, repr(setting), seed, tunes
        if key not in self.made:
            config = case.make(setting, seed, tunes)
            self.made[key] = Trial(case, setting, seed, tunes, config, run_folder_of(config))
        return self.made[key]

    def ask(self, case: Case, setting: Setting, seed: int, tunes: bool) -> Trial:
        """The same, as one of the runs of this study."""
        trial = self.trial(case, setting, seed, tunes)
        self.trials[case.benchmark, case.method, repr(setting), seed, tunes] = trial
        return trial


def is_tuned(case: Case) -> bool:
    """A method with one setting has nothing to choose."""
    return len(case.settings()) > 1


class Driver:
    """Carries a study out, or reads how far it is.

    after_round: called with the result whenever runs have ended, e.g. to write the tables.
    """

    def __init__(
        self,
        study: Study,
        executor: Executor | None = None,
        report: Report = say,
        after_round: Callable[[StudyResult], None] = lambda result: None,
    ):
        self.study, self.executor, self.report, self.after_round = study, executor, report, after_round
        self.result = StudyResult(study, [CaseResult(case, case.settings()) for case in study.cases])
        self._scores = Scores()

    def run(self) -> StudyResult:
        """Train all that is missing."""
        self.executor = self.executor or make_executor(self.study.executor)
        make_folder(self.study.runs_dir)
        for stage in self._stages():
            missing = {t.folder: t for t in stage if t.folder not in self.result.failed and not ended(t.folder)}
            if missing:
                self._train(list(missing.values()))
            self._read(stage)
            self.after_round(self.result)
            if self.result.interrupted:
                break
        return self.result

    def read(self) -> StudyResult:
        """What is known, without training anything."""
        for stage in self._stages():
            self._read(stage)
            if any(trial.folder not in self.result.scores for trial in stage):
                self.result.interrupted = True
        return self.result

    def _stages(self) -> Iterable[list[Trial]]:
        """The runs of one round after the other; a round depends on the scores of those before it."""
        tuned = [case for case in self.result.cases if is_tuned(case.case)]
        open_cases = tuned
        while open_cases:
            yield [
                self.result.ask(case.case, setting, seed, True)
                for case in open_cases
                for setting in case.settings
                for seed in self.study.tuning_seeds
            ]
            open_cases = [case for case in open_cases if self._choose(case)]
        for case in self.result.cases:
            if not is_tuned(case.case):
                (setting,) = case.settings
                config = case.case.make(setting, self.study.evaluation_seeds[0], False)
                case.chosen = Tried(setting, {}, config.optimizer.options.get("lr"))
        yield [
            self.result.ask(case.case, case.chosen.setting, seed, False)
            for case in self.result.cases
            if case.chosen is not None
            for seed in self.study.evaluation_seeds
        ]

    def _choose(self, case: CaseResult) -> bool:
        """Choose among what was tried; whether the grid grows, so that there is more to try."""
        case.tried = [self._tried(case.case, setting) for setting in case.settings]
        seeds, make = self.study.tuning_seeds, self.result.trial
        folders = [make(case.case, setting, seed, True).folder for setting in case.settings for seed in seeds]
        known = [self.result.scores[folder] for folder in folders if folder in self.result.scores]
        case.chosen = best(case.tried, known[0].measure.higher_is_better is not False) if known else None
        if case.chosen is None:
            return False
        case.edges = edges(case.settings, case.chosen.setting)
        if case.extensions >= self.study.extend:
            return False
        room = self.study.budget - len(case.settings)
        more = [s for s in extension(case.settings, case.chosen.setting, room) if self._possible(case.case, s)]
        case.settings += more
        case.extensions += bool(more)
        return bool(more)

    def _possible(self, case: Case, setting: Setting) -> bool:
        """Whether options may have these values at all: a rate ends at 1. Ranges are checked where a part is built."""
        try:
            config = case.make(setting, self.study.tuning_seeds[0], True)
            get_optimizer(config.optimizer.name, nn.Sequential(nn.Linear(2, 2)), **config.optimizer.options)
            for algo in config.algos:
                INTERVENTIONS[algo.name](**algo.options)
        except ValueError:  # a UserError, or another library's
            return False
        return True

    def _tried(self, case: Case, setting: Setting) -> Tried:
        scores, step = {}, None
        for seed in self.study.tuning_seeds:
            trial = self.result.trial(case, setting, seed, True)
            step = trial.config.optimizer.options.get("lr")
            score = self.result.scores.get(trial.folder)
            scores[seed] = float("nan") if score is None else selected(score, self.study.select)
        return Tried(setting, scores, step)

    def _read(self, stage: Sequence[Trial]) -> None:
        found = self._scores.read([trial.config for trial in stage], [trial.folder for trial in stage])
        self.result.scores |= found
        for folder in found:
            self.result.failed.pop(folder, None)

    def _train(self, missing: Sequence[Trial]) -> None:
        progress = self.study.results_dir / ".progress"
        together = populations([trial.config for trial in missing])
        more: dict[str, Any] = {"progress": str(progress), "keep_checkpoints": self.study.keep_checkpoints}
        jobs = [job_of(configs, **more) for configs in together]
        by_name = {trial.config.run_name(): trial for trial in missing}
        kind = "tuning" if missing[0].tunes else "evaluation"
        self.report(f"{kind}: {len(missing)} runs to train in {len(jobs)} populations")
        assert self.executor is not None
        facts: dict[str, Any] = {"stage": kind, "runs": len(missing), "done": 0, "failed": 0, "begun": time.time()}
        with LiveView(progress, facts, self.report):
            for outcome in self.executor.run(jobs, train):
                self._take(by_name[outcome.name], outcome)
                facts["done"] += 1
                facts["failed"] += outcome.state == "failed"
                write_facts(progress / "study.facts", facts)

    def _take(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.state in ("interrupted", ELSEWHERE):
            self.result.interrupted = True
        elif outcome.state == "failed":
            self.result.failed[trial.folder] = outcome
            self.report(f"failed: {trial.case.name}, {trial.setting}, seed {trial.seed}: {outcome.detail}")
