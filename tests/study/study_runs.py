"""Studies without training: an executor that writes what a run would have left."""

from lop.executors import Job, Outcome
from lop.plan import resolve
from lop.runs import RunFolder

TASKS = 10


class Written:
    """score(config) -> accuracy of every task, or a list; with the run's state before it; or an outcome's state."""

    def __init__(self, score):
        self.score, self.jobs = score, []

    @property
    def trained(self) -> list[str]:
        return [name for job in self.jobs for name in job.names]

    def run(self, jobs: list[Job], work):
        for job in jobs:
            self.jobs.append(job)
            for data, name in zip(job.configs, job.names, strict=True):
                config = resolve(data)
                found = self.score(config)
                if isinstance(found, str):
                    yield Outcome(name, found, "why")
                    continue
                state, values = found if isinstance(found, tuple) else ("finished", found)
                values = [values] * TASKS if isinstance(values, float) else values
                with RunFolder(config) as folder:
                    rows = [{"task": k, "online_accuracy": value} for k, value in enumerate(values)]
                    folder.tables["tasks"].append(rows)
                    bins = [
                        {"task": k, "bin": i, "step": 10 * k + 5 * (i + 1), "accuracy": value + (0.1 if i else -0.1)}
                        for k, value in enumerate(values)
                        for i in range(2)
                    ]
                    folder.tables["online"].append(bins)
                    times = [{"task": k, "seconds": 2.0, "diagnostics_seconds": 0.5} for k in range(len(values))]
                    folder.tables["timing"].append(times)
                    folder.set_status(state, tasks_done=len(values))
                yield Outcome(name, state)


GIVEN = {
    "benchmarks": {
        "digits": {"benchmark": "permuted_digits", "set": {"benchmark.num_tasks": TASKS, "net.hidden": [4]}}
    },
    "methods": {
        "sgd": {"optimizer": "sgd", "tune": {"optimizer.lr": [0.03, 0.1, 0.3]}},
        "adam": {"optimizer": "adam", "tune": {"optimizer.lr": [0.001, 0.003, 0.01]}},
    },
    "tuning": {"seeds": "100-101", "budget": 5, "extend": 2},
    "evaluation": {"seeds": "0-4"},
}


def lr_of(config) -> float:
    return config.optimizer.options["lr"]
