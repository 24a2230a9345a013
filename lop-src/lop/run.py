"""The one supervised loop: stream -> learner -> dashboard -> run folder."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from lop.config import Config
from lop.data.stream import Task
from lop.experiment import Experiment, build
from lop.metrics import format_summary
from lop.metrics.numerics import all_finite
from lop.plan import BENCHMARKS
from lop.runs import checkpoint
from lop.runs.records import phase_rows, scalar_columns, timings
from lop.runs.results import RunFolder, load
from lop.training.online import OnlineRecorder
from lop.training.progress import Progress
from lop.training.stopping import StopRequest
from lop.utils.errors import UserError
from lop.utils.memory import memory_errors

BINS_PER_TASK = 10
NON_FINITE = "non-finite "  # how the reasons of a diverged net begin
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
    with RunFolder(config) as folder, _kept_threads():
        state = folder.status().get("state")
        resumed = folder.checkpoint.exists()
        reason = None
        if state not in ("finished", "diverged") or not resumed:
            limit = config.run.time_limit_hours
            request = StopRequest(None if limit is None else limit * 3600)  # building the parts counts, too
            loop = make_loop(config, folder, progress, summaries)
            with request as stop, memory_errors(ADVICE):
                state = loop.train(stop)
                reason = stop.reason
        results = load(folder.path)
        return RunResult(folder.path, state, results.tasks, results.layers, results.online, resumed, reason)


@contextlib.contextmanager
def _kept_threads() -> Iterator[None]:
    """torch's number of threads is the process's: a run sets its own and gives it back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_loop(config: Config, folder: RunFolder, progress: Progress | None, summaries: bool) -> Loop:
    """The loop that the benchmark's kind needs."""
    if BENCHMARKS[config.benchmark.name].kind == "control":
        from lop.rl.loop import ControlLoop  # which is built on Loop

        return ControlLoop(config, folder, progress, summaries)
    return Loop(build(config), folder, progress, summaries)


class Loop:
    """One pass over the stream. Everything that changes is in `state_dict`, so it can stop and go on at any step."""

    def __init__(self, experiment: Experiment, folder: RunFolder, progress: Progress | None, summaries: bool):
        self.config, self.stream = experiment.config, experiment.stream
        self.learner, self.dashboard = experiment.learner, experiment.dashboard
        self.experiment, self.folder, self.progress, self.summaries = experiment, folder, progress, summaries
        self.online = OnlineRecorder(self.stream.loss == "cross_entropy")
        self.position = {"task": 0, "epoch": 0, "step": 0, "total": 0, "bin": 0, "diverged_step": -1, "resets": 0}
        self.before: dict | None = None  # the current task's first diagnostics; None: it has not begun
        self._last_save = time.monotonic()
        if folder.checkpoint.exists():
            self._restore()
        else:
            folder.clear_tables()

    def _restore(self) -> None:
        path = self.folder.checkpoint
        try:
            self.load_state_dict(checkpoint.load(path))
        except UserError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            raise UserError(f"{path}: of another experiment or version ({reason}); {checkpoint.START_AGAIN}") from None

    def train(self, stop: StopRequest) -> str:
        """Returns finished, interrupted or diverged."""
        self.folder.set_status("running", data=self.stream.data_description, tasks_done=self.position["task"])
        status = "finished"
        while self.position["task"] < self.stream.num_tasks:
            status = self._train_task(self.stream.task(self.position["task"]), stop)
            if status != "finished":
                break
        self.save(stop)
        self.folder.set_status(status, data=self.stream.data_description, tasks_done=self.position["task"])
        if self.progress:
            self.progress.close()
        return status

    def _train_task(self, task: Task, stop: StopRequest) -> str:
        started = time.monotonic()
        self._begin(task)
        bin_steps = self.stream.bin_steps or math.ceil(task.epochs * task.steps_per_epoch / BINS_PER_TASK)
        position = self.position
        while position["epoch"] < task.epochs:
            if position["step"] == 0:
                self.learner.start_epoch(task, position["epoch"])
            for x, y in task.batches(position["epoch"], position["step"]):
                self.online.record(self.learner.learn(x, y), y)
                position["step"] += 1
                position["total"] += 1
                if self.online.pending == bin_steps and self._close_bin(task) == "stop":
                    return "diverged"
                if stop.due():
                    return "interrupted"
                if self._save_due():
                    self.save(stop)
            self.learner.end_epoch(task, position["epoch"])
            position["epoch"] += 1
            position["step"] = 0
        if self.online.pending and self._close_bin(task) == "stop":
            return "diverged"
        if self._end(task, started) == "stop":
            return "diverged"
        self.save(stop)
        return "interrupted" if stop.due() and position["task"] < self.stream.num_tasks else "finished"

    def _begin(self, task: Task) -> None:
        if self.before is not None:
            self.learner.set_task(task)
            return
        self.learner.start_task(task)
        self.before = self.dashboard.before(task) if self.config.run.diagnostics else {}
        self._keep_weights(task, "before")

    def _end(self, task: Task, started: float) -> str | None:
        """Returns what to do about a divergence that only the diagnostics saw."""
        after = self.dashboard.after(task) if self.config.run.diagnostics else {}
        self._keep_weights(task, "after")
        row = self._task_row(task)
        action = self._check_diagnostics(task, after)
        row["diverged_step"] = self.position["diverged_step"]
        if self.summaries and after:
            print(format_summary(task.index, self.before, after, self._scores(row, after)), flush=True)
        self._write_rows(task, row, after, time.monotonic() - started)
        self.learner.end_task(task)
        self.before = None
        self.position |= {"task": task.index + 1, "epoch": 0, "step": 0, "bin": 0, "diverged_step": -1}
        return action

    def _close_bin(self, task: Task) -> str | None:
        position, started = self.position, self.position["total"] - self.online.pending
        summary, bad = self.online.close_bin()
        row = {"task": task.index, "bin": position["bin"], "step": position["total"], **summary}
        self.folder.tables["online"].append([row])
        position["bin"] += 1
        if self.progress:
            before = position["total"] - position["epoch"] * task.steps_per_epoch - position["step"]
            left = (self.stream.num_tasks - task.index) * task.epochs * task.steps_per_epoch  # if all are as long
            name = "loss" if math.isnan(summary["accuracy"]) else "accuracy"
            self.progress.update(
                task.index,
                self.stream.num_tasks,
                position["total"],
                before + left,
                f"{name} {summary[name]:.3f}",
            )
        return self._check_divergence(task, None if bad is None else started + bad)

    def _check_divergence(self, task: Task, bad_step: int | None) -> str | None:
        """At the end of a bin. bad_step: its first step with a non-finite loss.

        A loss can stay finite when weights are not, where what they feed is saturated or masked.
        """
        if bad_step is not None:
            return self._diverged(task, bad_step, "loss")
        if not all_finite(self.learner.net.parameters()):
            return self._diverged(task, self.position["total"] - 1, "weights")
        return None

    def _check_diagnostics(self, task: Task, after: dict) -> str | None:
        """At the end of a task: activations or outputs that overflow on the reference batch."""
        found = [reason for reason in after.get("reasons", {}).values() if reason.startswith(NON_FINITE)]
        if not found or self.position["diverged_step"] >= 0:
            return None
        return self._diverged(task, self.position["total"] - 1, found[0].removeprefix(NON_FINITE))

    def _diverged(self, task: Task, step: int, what: str) -> str:
        """Record the task's first divergence, and every one that resets the net; act as the config says."""
        policy, first = self.config.run.on_divergence, self.position["diverged_step"] < 0
        if first:
            self.position["diverged_step"] = step
        if first or policy == "reset_network":
            detail = f"step {step}: {NON_FINITE}{what}"
            event = {"task": task.index, "phase": "training", "what": "diverged", "detail": detail}
            self.folder.tables["events"].append([event])
        if policy == "reset_network":
            self.position["resets"] += 1
            self.experiment.reset_network(self.position["resets"])
        return policy

    def _task_row(self, task: Task) -> dict:
        """What the task's row says beside the diagnostics."""
        online = self.online.close_task()
        row = {"task": task.index, "steps": self.position["total"]}
        row |= {f"online_{name}": online[name] for name in ("accuracy", "loss")}
        return row

    def _scores(self, row: dict, after: dict) -> dict[str, float]:
        """The first line of the printed summary."""
        return {name: after[name] for name in ("loss", "train_acc", "test_acc")}

    def _write_rows(self, task: Task, row: dict, after: dict, seconds: float) -> None:
        for phase, values in (("before", self.before), ("after", after)):
            row |= scalar_columns(values, phase)
            for name, rows in phase_rows(task.index, phase, values).items():
                self.folder.tables[name].append(rows)
        self.folder.tables["tasks"].append([row])
        timing = {"task": task.index, "seconds": seconds, **timings(self.before, after)}
        self.folder.tables["timing"].append([timing])

    def _keep_weights(self, task: Task, phase: str) -> None:
        if self.config.run.keep_weights:
            path = self.folder.path / "weights" / f"task{task.index:05d}_{phase}.pt"
            path.parent.mkdir(exist_ok=True)
            checkpoint.save(path, {"net": self.learner.net.state_dict()})

    def _save_due(self) -> bool:
        every = self.config.run.checkpoint_every
        if every is not None and self.position["total"] % every == 0:
            return True
        return time.monotonic() - self._last_save > 60 * self.config.run.checkpoint_minutes

    def save(self, stop: StopRequest) -> None:
        """Write the checkpoint."""
        started = time.monotonic()
        self.folder.sync()
        checkpoint.save(self.folder.checkpoint, self.state_dict())
        self._last_save = time.monotonic()
        stop.longest_save = max(stop.longest_save, self._last_save - started)

    def state_dict(self) -> dict:
        return {
            "position": dict(self.position),
            "before": self.before,
            "learner": self.learner.state_dict(),
            "dashboard": self.dashboard.state_dict(),
            "online": self.online.state_dict(),
            "tables": self.folder.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.position = dict(state["position"])
        self.before = state["before"]
        self.learner.load_state_dict(state["learner"])
        self.dashboard.load_state_dict(state["dashboard"])
        self.online.load_state_dict(state["online"])
        self.folder.load_state_dict(state["tables"])
