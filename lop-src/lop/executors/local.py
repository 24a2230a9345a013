"""Jobs in processes of this machine, which share its cores, memory and GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace

import torch

from lop.executors.jobs import Job, Outcome, Work, lost
from lop.executors.registry import executor
from lop.executors.workers import WorkerDiedError, Workers
from lop.utils.ranges import COUNT, COUNT_OR_ZERO, require

KILLED = "its process was killed (out of memory?)"


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@executor("local")
class LocalProcesses:
    """So many jobs at once, each in a process, one process after the other on the same GPU where there are several.

    parallel: default: a job per core, or on GPUs `per_gpu` jobs on each. A process has its share of the cores and of
    the free memory. One that is killed takes no other along; its job goes on in a new one, as often as `retries`
    says. They end, and the notebooks' kernels with them, when this process does, however it ends, and when the caller
    stops.
    """

    def __init__(self, *, parallel: int | None = None, per_gpu: int = 1, retries: int = 1):
        require(COUNT, parallel=parallel, per_gpu=per_gpu)
        require(COUNT_OR_ZERO, retries=retries)
        gpus = torch.cuda.device_count()
        self.parallel = parallel or (gpus * per_gpu if gpus else cores())
        self.retries = retries
        self._environments = [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in range(gpus)] if gpus > 1 else []

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
        at_once = max(1, min(self.parallel, len(jobs)))
        threads_each = max(1, cores() // at_once)

        def carry_out(job: Job) -> list[Outcome]:
            for _ in range(1 + self.retries):
                try:
                    return workers.call(work, asdict(replace(job, threads=threads_each, share=1 / at_once)))
                except WorkerDiedError:
                    if workers.ended:
                        break
            return lost(job, KILLED)

        with Workers(self._environments) as workers, ThreadPoolExecutor(at_once) as threads:
            waiting = [threads.submit(carry_out, job) for job in jobs]
            try:
                for done in as_completed(waiting):
                    yield from done.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                workers.end()
                raise
