"""Jobs and kinds of work for the tests of executors; importable by their processes."""

import os
import signal
from pathlib import Path

from lop.executors import Job, job_of, populations, train
from lop.plan import make_config, members

TINY = {"benchmark.num_tasks": 2, "benchmark.epochs": 1, "net.hidden": [4], "run.threads": 1, "run.device": "cpu"}


def tiny_jobs(results_dir: Path, seeds="0-1", overrides=None) -> list[Job]:
    """Two populations: sgd and adam."""
    jobs = []
    for optimizer in ("sgd", "adam"):
        own = {**TINY, "run.results_dir": str(results_dir), **(overrides or {})}
        config = make_config(benchmark="permuted_digits", optimizer=optimizer, overrides=own)
        jobs += [job_of(group) for group in populations(members(config, seeds=seeds))]
    return jobs


def tables(results_dir: Path) -> dict[str, bytes]:
    """Every table of every run but the timings, by run and name."""
    found = {}
    for path in sorted(Path(results_dir).rglob("*.csv")):
        if path.name != "timing.csv" and path.parent.name.startswith("permuted_digits"):
            found[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    return found


def train_and_die_once(given: dict) -> list:
    """The process of the first job dies once, in the middle of its work."""
    mark = Path(given["configs"][0]["run"]["results_dir"], f"{given['name']}.died")
    if "-sgd-" in given["name"] and not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train(given)


def die(given: dict) -> list:
    """The work of a machine that runs out of memory every time."""
    if "-sgd-" in given["name"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(given)
