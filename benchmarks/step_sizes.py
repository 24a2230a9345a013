"""A step size for every optimizer by name, on every benchmark whose net is an MLP: the same small search for all.

    python benchmarks/step_sizes.py                                             # all of it, some hours on one core
    python benchmarks/step_sizes.py --benchmarks permuted_digits --optimizers muon upgd

For each optimizer, with the options that the benchmark ships for it beside the step size, step sizes are powers of
sqrt(10): three around where the optimizer's default is, and further ones as long as the best is at the edge. What
counts is the mean online accuracy over all tasks, of seed 100; of equal ones the smaller step wins. A net that cannot
be trained scores as chance. The best of each optimizer goes to `cfg/optimizers.csv` of the benchmark, from where a run
that names the optimizer takes it; --all FILE keeps every setting that was tried. Streams are shortened (`STREAMS`).
"""

import argparse
import csv
import json
import math
import statistics
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lop.config import Config
from lop.experiment import build
from lop.optimizers import list_optimizers
from lop.plan import BENCHMARKS, make_config, shipped_optimizer
from lop.training.learner import FirstUpdateError

SEEDS = (100,)
WINDOW = 0.25  # share of the tasks that are early, and late
MOST_EXTENSIONS = 5
OF_LIBRARY = ("pytorch_optimizer:Lion", "pytorch_optimizer:SOAP", "pytorch_optimizer:Kron")

# benchmark: what makes it short, and the chance of a guess
STREAMS: dict[str, tuple[dict[str, Any], float]] = {
    "permuted_digits": ({"benchmark.num_tasks": 4}, 0.1),
    "permuted_mnist": (
        {
            "benchmark.dataset": "fashion_mnist",
            "benchmark.num_tasks": 3,
            "benchmark.examples_per_task": 3200,
            "net.hidden": [100, 100, 100],
        },
        0.1,
    ),
    "label_permuted": ({"benchmark.num_tasks": 3, "benchmark.steps_per_task": 300}, 0.1),
    "random_label_mnist": (
        {"benchmark.dataset": "fashion_mnist", "benchmark.num_tasks": 2, "benchmark.epochs": 5},
        0.1,
    ),
}

# Where the search begins, for optimizers whose default is far from what suits these nets; the others begin at theirs.
STARTS = {"kfac": 0.3, "adahessian": 0.01, "sassha": 0.01, "msassha": 0.01, "sgd": 0.1, "asgd": 0.1, "shampoo": 0.1}

FIELDS = ("optimizer", "options", "accuracy", "early", "late", "seeds", "ms_per_step", "tried")


def online_accuracies(config: Config) -> tuple[list[float], float]:
    """Of each task, and the milliseconds that a step took."""
    experiment = build(config)
    learner, stream, accuracies = experiment.learner, experiment.stream, []
    start, steps = time.perf_counter(), 0
    for index in range(stream.num_tasks):
        task, right, seen = stream.task(index), torch.zeros((), dtype=torch.int64), 0
        learner.start_task(task)
        for epoch in range(task.epochs):
            learner.start_epoch(task, epoch)
            for x, y in task.batches(epoch, 0):
                logits = learner.learn(x, y).logits
                if learner.ruined_by_first_update:
                    raise learner.first_update_error()
                right += (logits.argmax(1) == y).sum() * logits.isfinite().any()
                seen, steps = seen + len(y), steps + 1
            learner.end_epoch(task, epoch)
        learner.hand_in(task)
        learner.end_task(task)
        accuracies.append(right.item() / seen)
    return accuracies, 1000 * (time.perf_counter() - start) / steps


def score(benchmark: str, optimizer: dict[str, Any], algos: list, overrides: dict[str, Any], seeds: Iterable[int]):
    """One row of the table, but for its last field."""
    short, chance = STREAMS[benchmark]
    rows, costs = [], []
    for seed in seeds:
        options = {f"optimizer.{key}": value for key, value in optimizer.items() if key != "name"}
        given = {**short, **options, **overrides, "run.seed": seed, "run.device": "cpu"}
        try:
            config = make_config(benchmark=benchmark, optimizer=optimizer["name"], algos=algos, overrides=given)
            accuracies, cost = online_accuracies(config)
            costs.append(cost)
        except FirstUpdateError:
            accuracies = [chance]
        rows.append(accuracies)
    window = max(1, round(WINDOW * len(rows[0])))
    mean = lambda parts: statistics.fmean(statistics.fmean(part) for part in parts)  # noqa: E731
    return {
        "optimizer": optimizer["name"],
        "options": json.dumps({k: v for k, v in optimizer.items() if k != "name"}),
        "accuracy": mean(rows),
        "early": mean([row[:window] for row in rows]),
        "late": mean([row[-window:] for row in rows]),
        "seeds": " ".join(map(str, seeds)),
        "ms_per_step": statistics.fmean(costs) if costs else math.nan,
    }


def search(benchmark: str, name: str, algos: list, overrides: dict[str, Any], tried: list[dict]) -> dict[str, Any]:
    """The best row. tried: gets all."""
    shipped = shipped_optimizer(benchmark, name)
    if "lr" not in shipped:
        default = make_config(benchmark=benchmark, optimizer=name).optimizer.options["lr"]
        shipped["lr"] = STARTS.get(name.partition(":")[0], default)
    middle = round(2 * math.log10(shipped["lr"]))
    rows: dict[int, dict] = {}

    def best() -> int:
        return min(rows, key=lambda i: (-rows[i]["accuracy"], i))

    def look(power: int) -> None:
        lr = float(f"{10 ** (power / 2):.1g}")
        rows[power] = score(benchmark, {**shipped, "lr": lr}, algos, overrides, SEEDS)
        tried.append({"benchmark": benchmark, **rows[power]})
        print(f"{benchmark} {name} lr {lr:g}: {rows[power]['accuracy']:.4f}", flush=True)

    for power in range(middle - 1, middle + 2):
        look(power)
    for _ in range(MOST_EXTENSIONS):
        if best() == min(rows):
            look(min(rows) - 1)
        elif best() == max(rows):
            look(max(rows) + 1)
        else:
            break
    return {**rows[best()], "tried": len(rows)}


def write(path: Path, rows: list[dict], fields: Iterable[str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(fields), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items() if k in fields})


def known(path: Path) -> dict[str, dict]:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["optimizer"]: row for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", nargs="+", default=list(STREAMS), choices=STREAMS)
    parser.add_argument("--optimizers", nargs="+", default=[*list_optimizers(), *OF_LIBRARY])
    parser.add_argument("--data-dir")
    parser.add_argument("--all", type=Path, help="a CSV file for every setting that was tried")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of nets that diverge
    torch.set_num_threads(1)
    tried: list[dict] = []
    for benchmark in options.benchmarks:
        configs = BENCHMARKS[benchmark].configs
        assert configs is not None
        path = configs / "optimizers.csv"
        for name in options.optimizers:
            best = search(benchmark, name, [], {"run.data_dir": options.data_dir}, tried)
            rows = known(path) | {name: best}
            write(path, [rows[key] for key in sorted(rows)], FIELDS)
            if options.all:
                write(options.all, tried, ("benchmark", *FIELDS[:-1]))


if __name__ == "__main__":
    main()
