"""Jobs in a Slurm queue, through submitit: arrays, and back into the queue when their time is over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lop.executors.jobs import Job, Outcome, Work, lost
from lop.executors.registry import executor
from lop.runs import results_folder
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, COUNT_OR_ZERO, POSITIVE, require

LOST = "its Slurm job ended without an answer"
INTERRUPTED = "interrupted"
POLL_SECONDS = {"local": 0.2, "slurm": 10.0}
GRACE_MINUTES = 2.0  # before the end of a job's time its runs save and stop


@executor("slurm")
class SlurmQueue:
    """Every job is one task of an array, on nodes that share this machine's folders.

    partition, account: as sbatch has them; minutes: of one job; cpus, gpus, memory_gb: of one job. at_once: tasks of
    the array that run at a time. retries: how often a job that was lost goes back into the queue; one that its time
    limit has stopped in mid-run goes back as often as it needs, from its run folders: it stops by itself, two minutes
    before the end, as a run does with exit status 75. cluster: `slurm`, or `local`: processes here, for tests.
    more: other options of sbatch, by submitit's names (slurm_constraint, slurm_qos, ...).

    Raises UserError where submitit is not installed.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        account: str | None = None,
        minutes: float = 240.0,
        cpus: int = 1,
        gpus: int = 0,
        memory_gb: float = 4.0,
        at_once: int = 256,
        retries: int = 2,
        cluster: str = "slurm",
        more: dict[str, Any] | None = None,
    ):
        require(POSITIVE, minutes=minutes, memory_gb=memory_gb)
        require(COUNT, cpus=cpus, at_once=at_once)
        require(COUNT_OR_ZERO, gpus=gpus, retries=retries)
        self.minutes, self.cpus, self.gpus, self.memory_gb = minutes, cpus, gpus, memory_gb
        self.at_once, self.retries, self.cluster = at_once, retries, cluster
        self.more = {"slurm_partition": partition, "slurm_account": account, **(more or {})}

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
        if not jobs:
            return
        queue = self._executor(results_folder(jobs[0].configs[0]["run"]["results_dir"]).parent / ".slurm")
        left = dict.fromkeys(range(len(jobs)), self.retries)
        running = self._submit(queue, dict(enumerate(jobs)), work)
        while running:
            time.sleep(POLL_SECONDS.get(self.cluster, POLL_SECONDS["slurm"]))
            again: dict[int, Job] = {}
            for number, task in [(number, task) for number, task in running.items() if task.done()]:
                del running[number]
                outcomes = _answer(task)
                if outcomes is None and left[number] > 0:
                    left[number] -= 1
                    again[number] = jobs[number]
                elif outcomes is not None and any(one.state == INTERRUPTED for one in outcomes):
                    again[number] = jobs[number]  # its time was over: what is left is queued anew
                else:
                    yield from outcomes if outcomes is not None else lost(jobs[number], LOST)
            if again:
                running |= self._submit(queue, again, work)

    def _submit(self, queue: Any, jobs: dict[int, Job], work: Work) -> dict[int, Any]:
        with queue.batch():
            return {number: queue.submit(work, asdict(self._prepared(job))) for number, job in jobs.items()}

    def _prepared(self, job: Job) -> Job:
        """With the time limit of its runs, so that they save before Slurm ends them."""
        hours = max(self.minutes / 2, self.minutes - GRACE_MINUTES) / 60
        configs = [{**config, "run": {"time_limit_hours": hours, **_given(config["run"])}} for config in job.configs]
        return replace(job, configs=configs, threads=self.cpus)

    def _executor(self, folder: Path) -> Any:
        try:
            import submitit
        except ImportError:
            raise UserError("executor slurm: submitit is not installed; pip install 'lop[cluster]'") from None
        try:
            queue = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{error}", option="executor.cluster", joint=": ") from None
        resources = {"timeout_min": max(1, round(self.minutes)), "cpus_per_task": self.cpus, "mem_gb": self.memory_gb}
        resources |= {"gpus_per_node": self.gpus} if self.gpus else {}
        of_slurm = {name: value for name, value in self.more.items() if value is not None}
        queue.update_parameters(**resources, slurm_array_parallelism=self.at_once, **of_slurm)
        return queue


def _given(run: dict[str, Any]) -> dict[str, Any]:
    """Without a time limit that is not set."""
    return {name: value for name, value in run.items() if name != "time_limit_hours" or value is not None}


def _answer(task: Any) -> list[Outcome] | None:
    """What a task returned; None where it ended without."""
    try:
        return task.result()
    except Exception:  # submitit raises what the task raised, and errors of its own for one that is gone
        return None
