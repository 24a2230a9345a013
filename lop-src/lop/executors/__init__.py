"""Where populations are trained: processes of this machine, a Ray cluster, a Slurm queue, or what a plugin brings."""

from lop.executors.jobs import ELSEWHERE, Executor, Job, Outcome, Work, job_of, populations, train
from lop.executors.local import LocalProcesses
from lop.executors.ray import RayCluster
from lop.executors.registry import EXECUTORS, executor, make_executor
from lop.executors.slurm import SlurmQueue

__all__ = [
    "ELSEWHERE",
    "EXECUTORS",
    "Executor",
    "Job",
    "LocalProcesses",
    "Outcome",
    "RayCluster",
    "SlurmQueue",
    "Work",
    "executor",
    "job_of",
    "make_executor",
    "populations",
    "train",
]
