"""Jobs on a Ray cluster: one that runs (by its address), or one that is started here."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lop.executors.jobs import Job, Outcome, Work, lost
from lop.executors.parcels import moved, packed, plugin_sources, unpack
from lop.executors.registry import executor
from lop.utils.errors import UserError
from lop.utils.ranges import AMOUNT, COUNT, COUNT_OR_ZERO, require

LOST = "the node or process that trained it was lost"


@executor("ray")
class RayCluster:
    """Every job is a Ray task.

    address: of a running cluster (`auto`: the one that this machine belongs to); None: one is started here, for this
    study. num_cpus, num_gpus: of one job; a quarter of a GPU lets four share one. retries: how often a job is begun
    again after its node or process was lost, on any node, from its run folders where these are shared. shared: whether
    all nodes see this machine's folders. If not, run folders and notebooks travel with the job and come back as its
    result, and what a lost node had done since then is done again. at_once: jobs handed to the cluster at a time; the
    others wait here.

    Raises UserError where Ray is not installed or the cluster cannot be reached.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        retries: int = 3,
        shared: bool = True,
        at_once: int = 1000,
    ):
        require(AMOUNT, num_cpus=num_cpus, num_gpus=num_gpus)
        require(COUNT_OR_ZERO, retries=retries)
        require(COUNT, at_once=at_once)
        self.address, self.num_cpus, self.num_gpus = address, num_cpus, num_gpus
        self.retries, self.shared, self.at_once = retries, shared, at_once

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
        ray = _ray()
        with self._connected(ray):
            options = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "max_retries": self.retries}
            remote = ray.remote(_carry_out).options(**options)
            waiting = list(reversed(jobs))
            running: dict[Any, Job] = {}
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    job = replace(waiting.pop(), threads=max(1, int(self.num_cpus)))
                    there = None if self.shared else packed(job)
                    task = remote.remote(asdict(job), work, plugin_sources(job), there)
                    running[task] = job
                done, _ = ray.wait(list(running), num_returns=1)
                for task in done:
                    job = running.pop(task)
                    yield from self._outcomes(ray, task, job)

    def _outcomes(self, ray: Any, task: Any, job: Job) -> list[Outcome]:
        try:
            outcomes, parcel = ray.get(task)
        except ray.exceptions.RayError as error:
            return lost(job, f"{LOST} ({type(error).__name__})")
        if parcel is not None:
            unpack(parcel, job)
        return outcomes

    @contextlib.contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        ours = not ray.is_initialized()
        if ours:
            try:
                started = {} if self.address else {"include_dashboard": False}
                ray.init(address=self.address, configure_logging=False, log_to_driver=False, **started)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0][:150]
                problem = f"no Ray cluster there ({reason}); start one with `ray start`, or leave the address out"
                raise UserError(problem, option="executor.address", joint=": ") from None
        try:
            yield
        finally:
            if ours:
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("executor ray: Ray is not installed; pip install 'lop[cluster]'") from None
    return ray


def _carry_out(
    given: dict[str, Any], work: Work, plugins: dict[str, str], there: bytes | None
) -> tuple[list[Outcome], bytes | None]:
    """On a node: the work. there: what the driver has of its folders, where these are not everybody's; then what the
    work has left behind comes back with the outcomes."""
    own = moved(Job(**given), Path(tempfile.gettempdir(), f"lop-plugins-{os.getuid()}"), plugins)
    if there is not None:
        unpack(there, own)
    outcomes = work(asdict(own))
    return outcomes, None if there is None else packed(own)
