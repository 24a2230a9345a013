"""One run from its config to its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lop.config import Config
from lop.experiment import build
from lop.runs import RunFolder, load
from lop.training.clock import Clock
from lop.training.loop import Loop
from lop.training.member import Member
from lop.training.population import Population
from lop.training.progress import Progress
from lop.training.stopping import StopRequest
from lop.utils.devices import kept_threads
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
    with RunFolder(config) as folder, kept_threads():
        state = folder.status().get("state")
        ended = folder.has_ended()
        resumed = ended or folder.has_checkpoint()
        reason = None
        if not ended:
            limit = config.run.time_limit_hours
            request = StopRequest(None if limit is None else limit * 3600)  # building the parts counts, too
            loop = make_loop(config, folder, request, progress, summaries)
            with request as stop, memory_errors(ADVICE):
                (state,) = loop.train()
                reason = stop.reason
        results = load(folder.path)
        return RunResult(folder.path, state, results.tasks, results.layers, results.online, resumed, reason)


def make_loop(
    config: Config, folder: RunFolder, stop: StopRequest, progress: Progress | None = None, summaries: bool = True
) -> Loop:
    """Everything that trains this config, where its folder's checkpoint says."""
    parts = build(config)
    measured = parts.stream, parts.learner, parts.dashboard, parts.recorder
    member = Member(config.run, folder, *measured, summaries=summaries)
    loop = Loop(Population([parts.learner]), [member], Clock(stop, config.run), progress)
    loop.restore()
    return loop
