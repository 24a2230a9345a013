"""How long a whole task takes, against a bare training loop over the same batches.

One task of Permuted MNIST's shape (1,875 steps of 32, MLP 3x100), all diagnostics, evaluation and checkpoints
included. `python benchmarks/end_to_end.py [--dataset fashion_mnist] [--optimizers sgd,adam,sassha]`
"""

import argparse
import contextlib
import io
import tempfile
import time

import torch
from _timing import print_table
from torch.nn import functional as F

from lop.experiment import build
from lop.optimizers import get_optimizer
from lop.plan import make_config
from lop.runner import run
from lop.runs import load


def bare_seconds(config, batches) -> float:
    """Seconds of forward, backward and update with plain torch SGD over the task's prepared batches."""
    net = build(config).learner.net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    start = time.perf_counter()
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return time.perf_counter() - start


def task_seconds(config) -> tuple[float, float]:
    """(seconds of one whole task, the diagnostics' part) of a run that does everything a user's run does."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = run(config)
    timing = load(result.folder).timing
    return timing["seconds"].median(), timing["diagnostics_seconds"].median()


def config_for(optimizer: str, dataset: str, folder: str, tasks: int):
    overrides = {
        "benchmark.dataset": dataset,
        "benchmark.num_tasks": tasks,
        "net.hidden": [100, 100, 100],
        "run.results_dir": folder,
        "run.resume": "never",
        "run.device": "cpu",
    }
    return make_config(benchmark="permuted_mnist", optimizer=optimizer, overrides=overrides)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--optimizers", default="sgd,adam,adahessian,sophiah,sassha")
    parser.add_argument("--tasks", type=int, default=3)
    options = parser.parse_args()
    get_optimizer("sgd", [torch.nn.Parameter(torch.zeros(1))], lr=0.1)  # imports paid before the clock runs
    with tempfile.TemporaryDirectory() as folder:
        first = config_for("sgd", options.dataset, folder, 1)
        batches = list(build(first).stream.task(0).batches(0))
        bare = min(bare_seconds(first, batches) for _ in range(3))
        rows = [["bare torch SGD loop", bare, 0.0, 1.0]]
        for name in options.optimizers.split(","):
            seconds, diagnostics = task_seconds(config_for(name, options.dataset, folder, options.tasks))
            rows.append([name, seconds, diagnostics, seconds / bare])
    print(f"one task: {len(batches)} steps of {len(batches[0][1])}, MLP 3x100, {torch.get_num_threads()} threads")
    print_table(["what", "s per task", "s diagnostics", "x bare loop"], rows)


if __name__ == "__main__":
    main()
