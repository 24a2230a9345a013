"""The unit of work: a population of runs, which can travel as plain values and be carried out anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from lop.config import Config
from lop.executors.progress import WrittenProgress
from lop.plan import resolve
from lop.runner import run_population
from lop.runs import CHECKPOINTS, ENDED, RunningElsewhereError, read_status, results_folder, run_folder_of
from lop.utils.devices import kept_threads
from lop.utils.errors import UserError, shortened
from lop.utils.files import disk_errors

ELSEWHERE = "running elsewhere"
MOST_MEMBERS = {"cpu": 16}  # beyond it a member gets no cheaper on a kind of device (`benchmarks/population.py`)
MANY_MEMBERS = 64  # on the others


@dataclass(frozen=True)
class Job:
    """Runs that are trained side by side: `Config.kind` is one for all.

    configs: resolved ones, as plain values; names: of their runs. extras: what else a kind of work needs to know of
    each. files: what it leaves behind beside the run folders. threads: of torch, where a config does not say; share:
    of the machine's free memory, as other jobs run beside it. progress: the folder to write progress into.
    """

    name: str
    configs: list[dict[str, Any]]
    names: list[str]
    extras: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    threads: int = 1
    share: float = 1.0
    progress: str | None = None
    keep_checkpoints: bool = True

    def folders(self) -> list[Path]:
        """The run folders."""
        pairs = zip(self.configs, self.names, strict=True)
        return [results_folder(config["run"]["results_dir"]) / name for config, name in pairs]


@dataclass(frozen=True)
class Outcome:
    """What came of one run. state: of it (finished, interrupted, diverged), running elsewhere, done before or failed.

    detail: one line that says why.
    """

    name: str
    state: str
    detail: str = ""


Work = Callable[[dict[str, Any]], list[Outcome]]


class Executor(Protocol):
    """Carries out jobs somewhere: calls work(a job as a dict) there and yields what came of every run, as it comes.

    work: an importable function, which raises nothing. Exactly one outcome for every run of every job. What a job
    leaves behind is in place when its outcomes come. A job whose process or machine is lost is begun again, from its
    run folders, a few times; then its runs have failed.
    """

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]: ...


def populations(configs: Sequence[Config]) -> list[list[Config]]:
    """Configs that one population can train, together, and no more at once than pays or `run.population` says.

    In the order in which the first of them come. Memory is looked at where the job runs.
    """
    kinds: dict[str, list[Config]] = {}
    for config in configs:
        kinds.setdefault(config.kind(), []).append(config)
    found = []
    for alike in kinds.values():
        size = _most(alike[0])
        count = -(-len(alike) // size)
        found += [alike[i * len(alike) // count : (i + 1) * len(alike) // count] for i in range(count)]
    return found


def _most(config: Config) -> int:
    if config.run.population != "auto":
        return config.run.population
    device = config.run.device.split(":")[0]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return MOST_MEMBERS.get(device, MANY_MEMBERS)


def job_of(configs: Sequence[Config], **more: Any) -> Job:
    """The job that trains this population."""
    names = [config.run_name() for config in configs]
    name = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    for config in configs:
        run_folder_of(config)  # raises UserError for a name that is no folder's
    return Job(name, [config.model_dump(mode="json") for config in configs], names, **more)


def train(given: dict[str, Any]) -> list[Outcome]:
    """Train the population of a job (a Job as a dict). Errors of a run are outcomes, not exceptions.

    Where the runs cannot be trained together (one of them is damaged, or runs elsewhere), they are trained one by one.
    """
    job = Job(**given)
    progress = None if job.progress is None else WrittenProgress(Path(job.progress), job.name, len(job.names))
    with kept_threads():
        torch.set_num_threads(job.threads)
        try:
            configs = [resolve(config) for config in job.configs]
            results = run_population(configs, progress, summaries=False, share=job.share)
            outcomes = [
                Outcome(name, result.status, result.reason or "")
                for name, result in zip(job.names, results, strict=True)
            ]
        except Exception as error:
            if len(job.names) == 1:
                outcomes = [_failed(job.names[0], error)]
            else:
                outcomes = [
                    _train_alone(config, name, job) for config, name in zip(job.configs, job.names, strict=True)
                ]
    if progress is not None:
        progress.end()
    if not job.keep_checkpoints:
        _drop_checkpoints(job, outcomes)
    return outcomes


def _train_alone(config: dict[str, Any], name: str, job: Job) -> Outcome:
    try:
        (result,) = run_population([resolve(config)], summaries=False, share=job.share)
    except Exception as error:
        return _failed(name, error)
    return Outcome(name, result.status, result.reason or "")


def _failed(name: str, error: Exception) -> Outcome:
    if isinstance(error, RunningElsewhereError):
        return Outcome(name, ELSEWHERE, str(error))
    if isinstance(error, UserError):
        return Outcome(name, "failed", str(error))
    return Outcome(name, "failed", shortened(f"{type(error).__name__}: {error}"))


def _drop_checkpoints(job: Job, outcomes: Sequence[Outcome]) -> None:
    """An ended run is not gone on from, and its checkpoints are most of what it takes on the disk."""
    for folder, outcome in zip(job.folders(), outcomes, strict=True):
        for name in CHECKPOINTS if outcome.state in ENDED else ():
            with disk_errors(folder):
                (folder / name).unlink(missing_ok=True)


def lost(job: Job, reason: str) -> list[Outcome]:
    """What came of the runs of a job whose process or machine is gone: what their folders say, else failed."""
    found = []
    for name, folder in zip(job.names, job.folders(), strict=True):
        try:
            state = read_status(folder).get("state")
        except UserError:  # damaged
            state = None
        found.append(Outcome(name, state) if state in ENDED else Outcome(name, "failed", reason))
    return found
