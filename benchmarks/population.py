"""What a member's step costs in a population, in single runs' steps in the same process.

Members learn random labels of random inputs, batch 16, MLP [100]*3-10. `one` is a single learner; `looped` are that
many learners one after the other, `stacked` as one computation: both per member, over `one`. On the CPU with one
thread.
`python benchmarks/population.py [--device cuda] [--members 1,4,16,64] [--optimizers sgd,adam] [--inputs 784,64]
[--algos cbp]`
"""

import argparse

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table

from lop.algos import INTERVENTIONS
from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator

OUTPUTS, BATCH = 10, 16


def population(kind: type[Population], members: int, optimizer: str, algos: list[str], inputs: int, device: str):
    """A call that makes one step of every member."""
    learners, batches = [], []
    for seed in range(members):
        generator = make_generator(seed, "benchmark")
        net = MLP((inputs,), OUTPUTS, hidden=[100, 100, 100])
        initialise_(net, generator)
        net.to(device)
        interventions = [INTERVENTIONS[name]() for name in algos]
        learners.append(Learner(net, get_optimizer(optimizer, net, lr=1e-4, seed=seed), interventions, seed=seed))
        x = torch.rand(BATCH, inputs, generator=generator).to(device)
        batches.append((x, torch.randint(0, OUTPUTS, (BATCH,), generator=generator).to(device)))
    trained = kind(learners)
    return lambda: trained.learn(batches)


def rows(
    optimizer: str, algos: list[str], inputs: int, sizes: list[int], device: str, rounds: int, repeats: int
) -> list[list[object]]:
    cases = {"one": population(Population, 1, optimizer, algos, inputs, device)}
    for size in sizes:
        cases[f"looped {size}"] = population(Population, size, optimizer, algos, inputs, device)
        cases[f"stacked {size}"] = population(StackedPopulation, size, optimizer, algos, inputs, device)
    times = interleaved_times(cases, rounds=rounds, repeats=repeats, warmup=2, device=device)
    return [
        [
            inputs,
            "+".join([optimizer, *algos]),
            size,
            median_ms(times, "one"),
            median_ratio(times, f"looped {size}", "one") / size,
            median_ratio(times, f"stacked {size}", "one") / size,
        ]
        for size in sizes
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", default="1,4,16,64")
    parser.add_argument("--optimizers", default="sgd,adam,adahessian,sophiah,sassha")
    parser.add_argument("--algos", default="", help="interventions of every member, with their defaults, e.g. cbp,l2")
    parser.add_argument("--inputs", default="784,64")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=20, help="steps in a row in each round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(size) for size in options.members.split(",")]
    algos = [name for name in options.algos.split(",") if name]
    table: list[list[object]] = []
    for inputs in map(int, options.inputs.split(",")):
        for optimizer in options.optimizers.split(","):
            table += rows(optimizer, algos, inputs, sizes, options.device, options.rounds, options.repeats)
    print_table(["inputs", "optimizer", "members", "one, ms", "looped", "stacked"], table)


if __name__ == "__main__":
    main()
