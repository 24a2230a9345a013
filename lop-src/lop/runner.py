"""From configs to their run folders: one run, or many side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lop.capacity import fitting
from lop.config import Config
from lop.data.sources import sharing_images
from lop.experiment import build
from lop.runs import RunFolder, load
from lop.runs.folder import Place
from lop.training.clock import Clock
from lop.training.loop import Loop
from lop.training.member import Member
from lop.training.population import make_population
from lop.training.progress import Progress, print_summary
from lop.training.stopping import StopRequest
from lop.utils.devices import kept_threads
from lop.utils.errors import UserError
from lop.utils.memory import memory_errors

ADVICE = "lower the sizes in benchmark, net or metrics (batch_size, widths, reference_size), or change run.device"


@dataclass(frozen=True)
class RunResult:
    """status: finished, interrupted (run the same command again to go on) or diverged; tables as in lop.runs."""

    folder: Path
    status: str
    tasks: pd.DataFrame
    layers: pd.DataFrame
    online: pd.DataFrame
    resumed: bool
    reason: str | None = None


def run(config: Config, progress: Progress | None = None, *, summaries: bool = True) -> RunResult:
    """Train on the whole stream, or go on where an earlier process stopped; a finished run is only reported.

    summaries: print every task's summary. Raises UserError for what a user can mend.
    """
    return run_population([config], progress, summaries=summaries)[0]


def run_population(
    configs: Sequence[Config], progress: Progress | None = None, *, summaries: bool = True, share: float = 1.0
) -> list[RunResult]:
    """Train several configs side by side; each gets the folder, the tables and the checkpoint of a run of its own.

    Those that differ in no more than the seed and numbers of the method (`Config.kind`) and are at the same place are
    trained as one population, as many at once as `run.population` says; else one population after the other. Runs that
    have ended are left out and reported. The time limit is the first config's, for all. summaries: print every task's
    summary of the first run that is trained. share: of the free memory that is for these runs. Results come in the
    order of the configs. Raises UserError for what a user can mend.
    """
    for config in configs:
        if config.run.seeds is not None:
            raise UserError("several seeds: give run_population lop.members(config)", option="run.seeds", joint=": ")
    reason: str | None = None
    states: dict[Path, str] = {}
    with contextlib.ExitStack() as opened, kept_threads(), sharing_images():
        folders = _open(configs, opened)
        todo = [folder for folder in folders if not folder.has_ended()]
        resumed = [folder not in todo or folder.has_checkpoint() for folder in folders]
        limit = configs[0].run.time_limit_hours if configs else None
        request = StopRequest(None if limit is None else limit * 3600)  # building the parts counts, too
        for group, advice in groups(todo, share):
            loop = make_loop(group, request, progress, summaries and not states)
            with request as stop, memory_errors(advice):
                states |= zip([folder.path for folder in group], loop.train(), strict=True)
                reason = stop.reason
            if reason is not None:
                break
        for folder in todo:
            if folder.path not in states:  # stopped before its turn
                states[folder.path] = "interrupted"
                if not folder.status():
                    folder.set_status("interrupted", tasks_done=0)
        return [
            _result(folder, states.get(folder.path) or folder.status()["state"], there, reason)
            for folder, there in zip(folders, resumed, strict=True)
        ]


def _open(configs: Sequence[Config], opened: contextlib.ExitStack) -> list[RunFolder]:
    folders = [RunFolder(config) for config in configs]
    if len({folder.path for folder in folders}) < len(folders):
        raise UserError("two of the runs are the same, or have one run.name: make their settings differ or drop one")
    return [opened.enter_context(folder) for folder in folders]


def _result(folder: RunFolder, state: str, resumed: bool, reason: str | None) -> RunResult:
    results = load(folder.path)
    tables = results.tasks, results.layers, results.online
    return RunResult(folder.path, state, *tables, resumed, reason if state == "interrupted" else None)


def groups(folders: Sequence[RunFolder], share: float = 1.0) -> Iterator[tuple[list[RunFolder], str]]:
    """Folders whose runs can be trained side by side now, and what to say when that needs too much memory.

    share: of the free memory, see `lop.capacity.fitting`.
    """
    if len(folders) == 1:  # whose place does not matter
        yield list(folders), ADVICE
        return
    kinds: dict[str, list[RunFolder]] = {}
    for folder in folders:
        kinds.setdefault(folder.config.kind(), []).append(folder)
    for alike in kinds.values():
        fit = fitting(alike[0].config, share) if len(alike) > 1 else None
        asked = alike[0].config.run.population
        size = fit or len(alike) if asked == "auto" else asked
        places = {folder.path: folder.place() for folder in alike}
        # the furthest first: what a stop left as one population is together again
        ordered = sorted(alike, key=lambda folder: places[folder.path], reverse=True)
        for start in range(0, len(ordered), size):
            for members in _side_by_side(ordered[start : start + size], places):
                yield members, _advice(len(members), fit)


def _side_by_side(folders: Sequence[RunFolder], places: dict[Path, Place]) -> list[list[RunFolder]]:
    """By place, and back by one checkpoint where that is another's: a kill in the middle of a save parts them."""
    first = min(places[folder.path] for folder in folders)
    found: dict[Place, list[RunFolder]] = {}
    for folder in folders:
        if places[folder.path] > first and folder.earlier_place() == first:
            folder.go_back()
            places[folder.path] = first
        found.setdefault(places[folder.path], []).append(folder)
    return list(found.values())


def _advice(size: int, fit: int | None) -> str:
    if size == 1:
        return ADVICE
    most = max(1, min(size - 1, size // 2 if fit is None else fit))
    return f"{size} runs at once are too many, {most} may fit: set run.population={most}; or {ADVICE}"


def make_loop(
    folders: Sequence[RunFolder], stop: StopRequest, progress: Progress | None = None, summaries: bool = True
) -> Loop:
    """Everything that trains these runs side by side, where their checkpoints say.

    summaries: of the first one, to where the progress is shown.
    """
    report = progress.summary if progress else print_summary
    members: list[Member] = []
    for folder in folders:
        parts = build(folder.config)
        measured = parts.stream, parts.learner, parts.dashboard, parts.recorder
        members.append(
            Member(folder.config.run, folder, *measured, report=report if summaries and not members else None)
        )
    population = make_population([member.learner for member in members])
    loop = Loop(population, members, Clock(stop, folders[0].config.run), progress)
    loop.restore()
    return loop
