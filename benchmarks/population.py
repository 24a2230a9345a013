"""What a member's step costs in a population, in single runs' steps in the same process; and whole runs.

Members learn random labels of random inputs, batch 16, MLP [100]*3-10. `one` is a single learner; `looped` are that
many learners one after the other, `stacked` as one computation: both per member, over `one`. `two rates`: the stack
when half of its members have another step size. On the CPU with one thread, and in seconds of processor time, which
other processes disturb least.
`--whole`: whole runs of permuted_digits, diagnostics, tables and checkpoints included, of that many seeds over one's.
`python benchmarks/population.py [--device cuda] [--members 1,4,16,64] [--optimizers sgd,adam] [--inputs 784] [--whole]
[--algos cbp]`
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table

from lop.algos import INTERVENTIONS
from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.optimizers import get_optimizer
from lop.plan import make_config, members
from lop.runner import run_population
from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator

OUTPUTS, BATCH = 10, 16
KINDS = {"looped": Population, "stacked": StackedPopulation, "two rates": StackedPopulation}


def population(kind: str, size: int, optimizer: str, algos: list[str], inputs: int, device: str):
    """A call that makes one step of every member."""
    learners, batches = [], []
    for seed in range(size):
        generator = make_generator(seed, "benchmark")
        net = MLP((inputs,), OUTPUTS, hidden=[100, 100, 100])
        initialise_(net, generator)
        net.to(device)
        lr = 2e-4 if kind == "two rates" and seed % 2 else 1e-4
        interventions = [INTERVENTIONS[name]() for name in algos]
        learners.append(Learner(net, get_optimizer(optimizer, net, lr=lr, seed=seed), interventions, seed=seed))
        x = torch.rand(BATCH, inputs, generator=generator).to(device)
        batches.append((x, torch.randint(0, OUTPUTS, (BATCH,), generator=generator).to(device)))
    trained = KINDS[kind](learners)
    return lambda: trained.learn(batches)


def clock_of(device: str) -> Callable[[], float]:
    return time.process_time if torch.device(device).type == "cpu" else time.perf_counter


def rows(
    optimizer: str, algos: list[str], inputs: int, sizes: list[int], device: str, rounds: int, repeats: int
) -> list[list[object]]:
    cases = {"one": population("looped", 1, optimizer, algos, inputs, device)}
    for size in sizes:
        for kind in KINDS:
            cases[f"{kind} {size}"] = population(kind, size, optimizer, algos, inputs, device)
    options = {"rounds": rounds, "repeats": repeats, "warmup": 2, "device": device}
    times = interleaved_times(cases, clock=clock_of(device), **options)
    return [
        [
            inputs,
            "+".join([optimizer, *algos]),
            size,
            median_ms(times, "one"),
            *(median_ratio(times, f"{kind} {size}", "one") / size for kind in KINDS),
        ]
        for size in sizes
    ]


def whole_seconds(optimizer: str, size: int, num_tasks: int, device: str) -> float:
    """Of `size` runs as one population, of the processor on the CPU."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        overrides = {"benchmark.num_tasks": num_tasks, "run.results_dir": folder, "run.device": device}
        config = make_config(benchmark="permuted_digits", optimizer=optimizer, overrides=overrides | {"run.threads": 1})
        clock = clock_of(device)
        start = clock()
        run_population(members(config, seeds=list(range(size))), summaries=False)
        return clock() - start


def whole_rows(optimizer: str, sizes: list[int], num_tasks: int, device: str) -> list[list[object]]:
    whole_seconds(optimizer, 1, 1, device)  # imports
    one = whole_seconds(optimizer, 1, num_tasks, device)
    table: list[list[object]] = []
    for size in sizes:
        seconds = whole_seconds(optimizer, size, num_tasks, device)
        table.append([optimizer, size, num_tasks, one, seconds, seconds / one])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", default="1,4,16,64")
    parser.add_argument("--optimizers", default="sgd,adam,adahessian,sophiah,sassha")
    parser.add_argument("--algos", default="", help="interventions of every member, with their defaults, e.g. cbp,l2")
    parser.add_argument("--inputs", default="784,64")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=20, help="steps in a row in each round")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--tasks", type=int, default=5, help="of whole runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(size) for size in options.members.split(",")]
    algos = [name for name in options.algos.split(",") if name]
    table: list[list[object]] = []
    if options.whole:
        for optimizer in options.optimizers.split(","):
            table += whole_rows(optimizer, [size for size in sizes if size > 1], options.tasks, options.device)
        print_table(["optimizer", "seeds", "tasks", "one, s", "all, s", "over one's"], table)
        return
    for inputs in map(int, options.inputs.split(",")):
        for optimizer in options.optimizers.split(","):
            table += rows(optimizer, algos, inputs, sizes, options.device, options.rounds, options.repeats)
    print_table(["inputs", "optimizer", "members", "one, ms", *KINDS], table)


if __name__ == "__main__":
    main()
