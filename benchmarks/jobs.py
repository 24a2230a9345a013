"""What a driver spends on many jobs: making them, handing them out, listing and reading their results, memory.

    python benchmarks/jobs.py [--jobs 10000]

Each job is a run whose tables are written as a training run would have left them, without training, in this process:
what is measured is the driver. Prints a table of seconds of its CPU time and of its memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from lop.executors import Job, LocalProcesses, Outcome, job_of
from lop.runs import load
from lop.study import Driver, make_study
from lop.study.tables import comparison_table, runs_table
from lop.study.view import status_lines

TASKS = 5


class Written:
    """An executor that copies the files of the first run into every run folder."""

    def __init__(self) -> None:
        self.jobs, self.seconds = 0, 0.0

    def run(self, jobs: list[Job], work):
        self.jobs += len(jobs)
        tasks = "task,steps,online_accuracy,diverged_step\n"
        tasks += "".join(f"{k},{90 * (k + 1)},0.{80 + k},-1\n" for k in range(TASKS))
        online = "task,bin,step,accuracy\n"
        online += "".join(f"{k},{i},{90 * k + 9 * (i + 1)},0.{80 + i}\n" for k in range(TASKS) for i in range(10))
        timing = "task,seconds,diagnostics_seconds\n" + "".join(f"{k},1.5,0.5\n" for k in range(TASKS))
        for job in jobs:
            started = time.process_time()
            for config, name, folder in zip(job.configs, job.names, job.folders(), strict=True):
                folder.mkdir(parents=True)
                (folder / "config.json").write_text(json.dumps(config))
                for table, text in (("tasks", tasks), ("online", online), ("timing", timing)):
                    (folder / f"{table}.csv").write_text(text)
                (folder / "status.json").write_text('{"schema": 2, "state": "finished", "tasks_done": 5}')
                self.seconds += time.process_time() - started
                yield Outcome(name, "finished")
                started = time.process_time()


def nothing(given: dict) -> list[Outcome]:
    """The work of a job that takes no time."""
    return [Outcome(name, "finished") for name in given["names"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="populations of one run each")
    count = parser.parse_args().jobs
    folder = Path(tempfile.mkdtemp(prefix="lop-jobs-"))
    methods = {f"m{i}": {"optimizer": "sgd", "set": {"optimizer.lr": 0.1, "net.hidden": [4 + i]}} for i in range(100)}
    given = {
        "benchmarks": {
            "digits": {"benchmark": "permuted_digits", "set": {"benchmark.num_tasks": TASKS, "run.population": 1}}
        },
        "methods": methods,
        "evaluation": {"seeds": f"0-{count // len(methods) - 1}"},
        "results_dir": str(folder),
    }
    rows = []

    def timed(what: str, call):
        started = time.process_time()
        value = call()
        rows.append((what, time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return value

    try:
        study = timed("read and check the file", lambda: make_study(given))
        executor = Written()
        result = timed(
            "a whole course: make, hand out, take, score", lambda: Driver(study, executor, lambda line: None).run()
        )
        timed("  of which writing the folders", lambda: None)
        rows[-1] = (rows[-1][0], executor.seconds, rows[-1][2])
        configs = [trial.config for trial in result.trials.values()]
        jobs = timed("jobs of them, without populations", lambda: [job_of([config]) for config in configs])
        timed("  through two local processes", lambda: list(LocalProcesses(parallel=2).run(jobs, nothing)))
        timed("  their size as text, KB a job", lambda: None)
        rows[-1] = (rows[-1][0], len(json.dumps(asdict(jobs[0]))) / 1000, rows[-1][2])
        timed("the same command again: read what is there", lambda: Driver(study).read())
        timed("tables", lambda: (runs_table(result), comparison_table(result, {})))
        timed("lop status", lambda: status_lines(folder))
        timed("lop.load of all run folders", lambda: load(folder))
    finally:
        shutil.rmtree(folder)
    print(f"{executor.jobs} populations of one run")
    for what, seconds, memory in rows:
        print(f"{what:48s} {seconds:8.1f} s {memory:8.0f} MB at most so far")


if __name__ == "__main__":
    main()
