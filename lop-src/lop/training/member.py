"""One of the nets that a loop trains: its run folder, its diagnostics, its online performance, its divergences."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from lop.config import Run
from lop.data.stream import Task, TaskStream
from lop.metrics import Dashboard, Reason, format_summary
from lop.metrics.numerics import all_finite
from lop.runs import RunFolder, checkpoint
from lop.runs.records import phase_rows, scalar_columns, timings
from lop.runs.scalars import Scalars
from lop.training.learner import Learner
from lop.training.online import OnlineRecorder, scores
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator
from lop.utils.session import load_per_core, session


class Member:
    """Writes what happens to one learner into its run folder, and acts on its divergence as the config says.

    report: what is called with the summary of every task, as text; None: nobody wants it.
    """

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        stream: TaskStream,
        learner: Learner,
        dashboard: Dashboard,
        recorder: OnlineRecorder,
        *,
        report: Callable[[str], None] | None = None,
    ):
        self.run, self.folder, self.stream, self.learner = run, folder, stream, learner
        self.dashboard, self.recorder, self.report = dashboard, recorder, report
        self._scalars = Scalars(folder.path) if run.tensorboard else None
        self._before: dict | None = None  # the current task's first diagnostics; None: it has not begun
        self._bin = self._restarts = 0
        self._diverged_step = -1  # the current task's first one; -1: none
        self._task_started = time.monotonic()

    @property
    def in_task(self) -> bool:
        """Whether a task has begun and not ended."""
        return self._before is not None

    def set_status(self, status: str, tasks_done: int) -> None:
        """For whoever looks into the folder; kept as `status`."""
        self.status = status
        if self._scalars is not None:
            self._scalars.close()
        self.folder.set_status(status, data=self.stream.data_description, tasks_done=tasks_done)

    def begin(self, task: Task) -> None:
        """After the learner's own start of a task, or a resume in the middle of one."""
        self._task_started = time.monotonic()
        if self.in_task:
            return
        self.recorder.start_task(task)
        self._before = self.dashboard.before(task) if self.run.diagnostics else {}
        self._keep_weights(task, "before")

    def record(self, task: Task, result: Any, x: Tensor, y: Any) -> None:
        """One batch of the task: what `learn` returned for it."""
        self.recorder.record(result, y)
        if self.run.diagnostics and task.batch_steps == 1:  # else a batch is many updates
            self.dashboard.after_step(x, y, result.loss)

    def close_bin(self, task: Task, total: int) -> str | None:
        """total: steps so far. Returns what the config says to do about a divergence in this bin; None: there is none.

        A loss can stay finite when weights are not, where what they feed is saturated or masked.
        """
        pending = self.recorder.pending
        summary, bad = self.recorder.close_bin()
        self.folder.tables["online"].append([{"task": task.index, "bin": self._bin, "step": total, **summary}])
        self._bin += 1
        if self._scalars is not None:
            self._scalars.write("online", total, summary)
        if bad is not None:
            return self._diverged(task, total - (pending - bad) * task.batch_steps, Reason.NON_FINITE_LOSS)
        if not all_finite(self.learner.net.parameters()):
            return self._diverged(task, total - 1, Reason.NON_FINITE_PARAMETERS)
        return None

    def end(self, task: Task, total: int) -> str | None:
        """After a task's last step. Returns what to do about a divergence that only the diagnostics saw."""
        after = self.dashboard.after(task) if self.run.diagnostics else {}
        self._keep_weights(task, "after")
        row = {"task": task.index, "steps": total, **self.recorder.close_task()}
        action = self._check_diagnostics(task, after, total)
        row["diverged_step"] = self._diverged_step
        if self.report is not None and after:
            self.report(format_summary(task.index, self._before or {}, after, scores(row)))
        self._write_rows(task, row, after)
        self._before, self._bin, self._diverged_step = None, 0, -1
        return action

    def _check_diagnostics(self, task: Task, after: dict, total: int) -> str | None:
        """Activations or outputs that overflow on the reference batch."""
        found = [reason for reason in after.get("reasons", {}).values() if reason.diverged]
        if not found or self._diverged_step >= 0:
            return None
        return self._diverged(task, total - 1, found[0])

    def _diverged(self, task: Task, step: int, reason: Reason) -> str:
        """Record the task's first divergence, and every one that resets the net; act as the config says."""
        policy, first = self.run.on_divergence, self._diverged_step < 0
        if first:
            self._diverged_step = step
        if first or policy == "reset_network":
            detail = f"step {step}: {reason}"
            event = {"task": task.index, "phase": "training", "what": "diverged", "detail": detail}
            self.folder.tables["events"].append([event])
        if policy == "reset_network":
            self._restarts += 1
            self.learner.restart(make_generator(self.run.seed, "net", "reset", self._restarts))
        return policy

    def _write_rows(self, task: Task, row: dict, after: dict) -> None:
        before = self._before or {}
        for phase, values in (("before", before), ("after", after)):
            row |= scalar_columns(values, phase)
            for name, rows in phase_rows(task.index, phase, values).items():
                self.folder.tables[name].append(rows)
        self.folder.tables["tasks"].append([row])
        if self._scalars is not None:
            self._scalars.write("tasks", row["steps"], row)
        seconds = time.monotonic() - self._task_started
        timing = {"task": task.index, "seconds": seconds, **timings(before, after)}
        timing |= {"session": session(), "load": load_per_core()}
        self.folder.tables["timing"].append([timing])

    def _keep_weights(self, task: Task, phase: str) -> None:
        if self.run.keep_weights:
            path = self.folder.path / "weights" / f"task{task.index:05d}_{phase}.pt"
            path.parent.mkdir(exist_ok=True)
            checkpoint.save(path, {"net": self.learner.net.state_dict()})

    def save(self, position: dict[str, int]) -> None:
        """Write the checkpoint. position: where the loop is."""
        self.folder.save_checkpoint({"position": position, **self.state_dict()}, self.stream.fingerprint)

    def restore(self) -> dict[str, Any] | None:
        """Go on from the checkpoint, and return it. None: there is none, and the tables are empty.

        Raises UserError for a checkpoint of another experiment or of other data.
        """
        state = self.folder.load_checkpoint(self.stream.fingerprint)
        if state is None:
            self.folder.clear_tables()
            return None
        try:
            self.load_state_dict(state)
        except UserError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            where = self.folder.checkpoint
            raise UserError(f"{where}: of another experiment or version ({reason}); {checkpoint.START_AGAIN}") from None
        return state

    def state_dict(self) -> dict[str, Any]:
        return {
            "before": self._before,
            "bin": self._bin,
            "restarts": self._restarts,
            "diverged_step": self._diverged_step,
            "stream": self.stream.state_dict(),
            "learner": self.learner.state_dict(),
            "dashboard": self.dashboard.state_dict(),
            "recorder": self.recorder.state_dict(),
            "tables": self.folder.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before, self._bin, self._restarts = state["before"], state["bin"], state["restarts"]
        self._diverged_step = state["diverged_step"]
        self.stream.load_state_dict(state["stream"])
        self.learner.load_state_dict(state["learner"])
        self.dashboard.load_state_dict(state["dashboard"])
        self.recorder.load_state_dict(state["recorder"])
        self.folder.load_state_dict(state["tables"])
