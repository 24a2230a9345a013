"""What interventions do beside the plain learner, each at a step size and a strength found by the same small search.

    python benchmarks/method_search.py search --stream permuted_digits --base sgd      # then --base adam, other streams
    python benchmarks/method_search.py evaluate --stream permuted_digits --base sgd    # at what the search chose

Every method has six settings, two step sizes times three strengths; the plain learner has six step sizes. What counts
is the mean online accuracy over all tasks of the search's seed; the evaluation's seeds are others. All members of a
base that share step size and net are trained as one population, whatever their methods. Streams are shortened
(`STREAMS`). Rows are added to docs/methods/searched.csv and docs/methods/evaluated.csv, those of the same stream and
base replaced.
"""

import argparse
import csv
import json
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch

from lop.experiment import build
from lop.plan import make_config
from lop.training.population import make_population

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "docs" / "methods"
SEARCH_SEED, SEEDS = 100, (0, 1, 2, 3, 4)
ENDS = 10  # tasks that are first, and last

STREAMS: dict[str, dict[str, Any]] = {
    "permuted_digits": {"benchmark.epochs": 2, "benchmark.num_tasks": 30},
    "label_permuted": {
        "benchmark.dataset": "digits",
        "benchmark.batch_size": 16,
        "benchmark.steps_per_task": 180,
        "benchmark.num_tasks": 30,
        "net.hidden": [100, 100, 100],
        "net.init": "kaiming_uniform",
    },
    "permuted_mnist": {
        "benchmark.dataset": "fashion_mnist",
        "benchmark.examples_per_task": 4000,
        "benchmark.batch_size": 32,
        "benchmark.num_tasks": 20,
        "net.hidden": [100, 100, 100],
    },
}
SEARCHED_TASKS = {"permuted_digits": 10, "label_permuted": 10, "permuted_mnist": 6}

PLAIN_STEPS = {"sgd": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5), "adam": (3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2)}
STEPS = {"sgd": (0.1, 0.3), "adam": (1e-3, 3e-3)}

# method: what is fixed, the option that is searched, and its values
METHODS: dict[str, tuple[dict[str, Any], str, tuple]] = {
    "weight_clipping": ({}, "kappa", (1.0, 2.0, 4.0)),
    "parseval": ({"width_factor": False}, "weight", (1e-5, 1e-4, 1e-3)),
    "spectral_reg": ({}, "weight", (1e-4, 1e-3, 1e-2)),
    "wasserstein_init": ({"reduction": "sum"}, "weight", (1e-4, 1e-3, 1e-2)),
    "l2_er": ({}, "er_lr", (1e-4, 1e-3, 1e-2)),
    "nap": ({}, "interval", (1, 10, 100)),
    "fire": ({}, "iterations", (1, 5, 10)),
    "dash": ({}, "floor", (0.1, 0.3, 0.6)),
    "regrama": ({"period": 100}, "threshold", (0.01, 0.1, 0.25)),
    "cpr": ({"period": 100}, "rate", (0.003, 0.015, 0.1)),
    "swr": ({"period": 100}, "factor", (1e-3, 1e-2, 1e-1)),
}
NETS = {"nap": {"net.layer_norm": True}}  # what a method needs of the net

Setting = tuple[str, float, dict[str, Any]]  # method ("bp": the plain learner), step size, options


def settings(base: str) -> list[Setting]:
    plain: list[Setting] = [("bp", lr, {}) for lr in PLAIN_STEPS[base]]
    return plain + [
        (name, lr, {**fixed, option: value})
        for name, (fixed, option, values) in METHODS.items()
        for lr in STEPS[base]
        for value in values
    ]


def online_accuracies(stream: str, base: str, members: list[tuple[Setting, int]], num_tasks: int) -> list[list[float]]:
    """Of each member, a setting and a seed, and each task."""
    experiments = []
    for (method, lr, options), seed in members:
        given = {**STREAMS[stream], **NETS.get(method, {}), "optimizer.lr": lr, "run.seed": seed, "run.device": "cpu"}
        algos = [{"name": method, **options}]
        experiments.append(build(make_config(benchmark=stream, optimizer=base, algos=algos, overrides=given)))
    population = make_population([experiment.learner for experiment in experiments])
    accuracies: list[list[float]] = [[] for _ in members]
    for index in range(num_tasks):
        tasks = [experiment.stream.task(index) for experiment in experiments]
        right, seen = torch.zeros(len(members)), 0
        population.start_task(tasks)
        for epoch in range(tasks[0].epochs):
            population.start_epoch(tasks, epoch)
            for batches in zip(*(task.batches(epoch) for task in tasks), strict=True):
                results = population.learn(batches)
                logits = torch.stack([result.logits for result in results])
                labels = torch.stack([y for _, y in batches])
                right += ((logits.argmax(2) == labels) & logits.isfinite().all(2)).sum(1)
                seen += labels.shape[1]
            population.end_epoch(tasks, epoch)
        population.hand_in(tasks)
        population.end_task(tasks)
        for own, value in zip(accuracies, (right / seen).tolist(), strict=True):
            own.append(value)
        print(f"{stream} {base}: task {index} of {num_tasks}", flush=True)
    return accuracies


def search(stream: str, base: str) -> None:
    tried = settings(base)
    found = online_accuracies(stream, base, [(s, SEARCH_SEED) for s in tried], SEARCHED_TASKS[stream])
    rows = [
        {"stream": stream, "base": base, "method": method, "lr": lr, "options": json.dumps(options), "accuracy": mean}
        for (method, lr, options), mean in zip(tried, map(statistics.fmean, found), strict=True)
    ]
    add(TABLES / "searched.csv", stream, base, rows)


def chosen(stream: str, base: str) -> list[Setting]:
    """The best of each method; of equal ones the first, which has the smaller step."""
    best: dict[str, dict[str, str]] = {}
    for row in read(TABLES / "searched.csv"):
        if (row["stream"], row["base"]) == (stream, base):
            known = best.setdefault(row["method"], row)
            if float(row["accuracy"]) > float(known["accuracy"]):
                best[row["method"]] = row
    return [(row["method"], float(row["lr"]), json.loads(row["options"])) for row in best.values()]


def evaluate(stream: str, base: str) -> None:
    best, num_tasks = chosen(stream, base), STREAMS[stream]["benchmark.num_tasks"]
    found = online_accuracies(stream, base, [(setting, seed) for setting in best for seed in SEEDS], num_tasks)
    rows = []
    for i, (method, lr, options) in enumerate(best):
        own = found[i * len(SEEDS) : (i + 1) * len(SEEDS)]
        row = {"stream": stream, "base": base, "method": method, "lr": lr, "options": json.dumps(options)}
        for name, part in (("first", slice(ENDS)), ("last", slice(-ENDS, None)), ("all", slice(None))):
            of_seeds = [statistics.fmean(accuracies[part]) for accuracies in own]
            row |= {name: statistics.fmean(of_seeds), f"{name}_se": statistics.stdev(of_seeds) / len(SEEDS) ** 0.5}
        rows.append(row)
    add(TABLES / "evaluated.csv", stream, base, rows)


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add(path: Path, stream: str, base: str, rows: list[dict[str, Any]]) -> None:
    """Rows of this stream and base in place of the file's own."""
    path.parent.mkdir(exist_ok=True)
    others = [row for row in read(path) if (row["stream"], row["base"]) != (stream, base)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(others)
        for row in rows:
            writer.writerow({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "evaluate"))
    parser.add_argument("--stream", choices=STREAMS, default="permuted_digits")
    parser.add_argument("--base", choices=STEPS, default="sgd")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of nets that diverge
    torch.set_num_threads(1)
    {"search": search, "evaluate": evaluate}[given.what](given.stream, given.base)


if __name__ == "__main__":
    main()
