"""The loop of reinforcement learning: rollout, minibatch steps, dashboard, run folder."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from lop.config import Config
from lop.experiment import build
from lop.rl.episodes import EpisodeRecorder
from lop.rl.ppo import gaussian_kl
from lop.rl.rollout import Rollouts
from lop.rl.stream import ControlTask
from lop.run import BINS_PER_TASK, Loop
from lop.runs.results import RunFolder
from lop.training.progress import Progress
from lop.training.stopping import StopRequest
from lop.utils.seeding import make_generator


class ControlLoop(Loop):
    """As the supervised loop, but each epoch of a task is an update: a rollout and its minibatch steps.

    Runs stop and go on between two updates. Steps in the tables are env steps.
    """

    def __init__(self, config: Config, folder: RunFolder, progress: Progress | None, summaries: bool):
        experiment = build(config)
        self.rollouts = Rollouts(experiment.stream, experiment.learner.net, config.run.seed)
        self.episodes = EpisodeRecorder()
        self.start: dict[str, Tensor] | None = None  # of the current task: see `_snapshot`
        self._saved_at = 0
        super().__init__(experiment, folder, progress, summaries)

    def _train_task(self, task: ControlTask, stop: StopRequest) -> str:
        started = time.monotonic()
        bin_updates = math.ceil(task.epochs / BINS_PER_TASK)
        position = self.position
        if self.before is None:
            self.learner.start_task(task)
        else:
            task = task.with_reference(self.start["reference"])
            self.learner.set_task(task)
        while position["epoch"] < task.epochs:
            self.learner.start_epoch(task, position["epoch"])
            observations, batch = self.rollouts.collect()
            if self.before is None:
                task = self._measure_start(task, observations)
            for x, y in self.rollouts.minibatches(observations, batch):
                self.online.record(self.learner.learn(x, y), y.actions)
            self.episodes.record(self.rollouts.pool.take_finished())
            self.learner.end_epoch(task, position["epoch"])
            position["epoch"] += 1
            position["total"] += len(observations)
            full = position["epoch"] % bin_updates == 0 or position["epoch"] == task.epochs
            if full and self._close_bin(task) == "stop":
                return "diverged"
            if position["epoch"] < task.epochs:
                if stop.due():
                    return "interrupted"
                if self._save_due():
                    self.save(stop)
        if self._end(task, started) == "stop":
            return "diverged"
        self.save(stop)
        return "interrupted" if stop.due() and position["task"] < self.stream.num_tasks else "finished"

    def _measure_start(self, task: ControlTask, observations: Tensor) -> ControlTask:
        """The task's reference batch, drawn from its first rollout, and its first diagnostics."""
        generator = make_generator(self.config.run.seed, "rl", "reference", task.index)
        rows = torch.randperm(len(observations), generator=generator)[: self.dashboard.settings.reference_size]
        task = task.with_reference(observations[rows.to(observations.device)].clone())
        self.start = self._snapshot(task.observations)
        self.before = self.dashboard.before(task) if self.config.run.diagnostics else {}
        self._keep_weights(task, "before")
        return task

    @torch.no_grad()
    def _snapshot(self, reference: Tensor) -> dict[str, Tensor]:
        """The policy on the reference observations, and all parameters in one vector."""
        net = self.learner.net
        return {
            "reference": reference,
            "mean": net.split(net(reference))[0],
            "log_std": net.log_std.value.detach().clone(),
            "parameters": torch.cat([p.detach().flatten() for p in net.parameters()]),
        }

    def _close_bin(self, task: ControlTask) -> str | None:
        position, start = self.position, self.start
        summary, bad = self.online.close_bin()
        now = self._snapshot(start["reference"])
        row = {"task": task.index, "bin": position["bin"], "step": position["total"], **summary}
        row |= {**self.episodes.close_bin(), "policy_kl": _policy_kl(start, now)}
        self.folder.tables["online"].append([row])
        position["bin"] += 1
        if self.progress:
            steps = self.stream.updates_before(self.stream.num_tasks) * self.stream.rollout_steps
            text = f"return {row['return']:.1f}"
            self.progress.update(task.index, self.stream.num_tasks, position["total"], steps, text)
        return self._check_divergence(task, None if bad is None else position["total"])

    def _task_row(self, task: ControlTask) -> dict:
        episodes, now = self.episodes.close_task(), self._snapshot(self.start["reference"])
        return {
            **super()._task_row(task),
            "online_return": episodes["return"],
            "online_length": episodes["length"],
            "episodes": episodes["episodes"],
            "policy_kl": _policy_kl(self.start, now),
            "weight_change": (now["parameters"] - self.start["parameters"]).abs().mean().item(),
            "action_std": now["log_std"].exp().mean().item(),
            "friction": self.rollouts.pool.friction,
        }

    def _scores(self, row: dict, after: dict) -> dict[str, float]:
        names = ("online_return", "online_length", "policy_kl")
        return {name.removeprefix("online_"): row[name] for name in names}

    def _save_due(self) -> bool:
        every = self.config.run.checkpoint_every
        if every is not None and self.position["total"] - self._saved_at >= every:
            return True
        return time.monotonic() - self._last_save > 60 * self.config.run.checkpoint_minutes

    def save(self, stop: StopRequest) -> None:
        super().save(stop)
        self._saved_at = self.position["total"]

    def state_dict(self) -> dict:
        own = {"rollouts": self.rollouts.state_dict(), "episodes": self.episodes.state_dict(), "start": self.start}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.rollouts.load_state_dict(state["rollouts"])
        self.episodes.load_state_dict(state["episodes"])
        self.start = state["start"] and {name: t.to(self.learner.device) for name, t in state["start"].items()}
        self._saved_at = self.position["total"]


def _policy_kl(start: dict[str, Tensor], now: dict[str, Tensor]) -> float:
    """How far the policy moved since the task's start: the mean KL divergence on its reference observations."""
    return gaussian_kl(start["mean"], start["log_std"], now["mean"], now["log_std"]).item()
