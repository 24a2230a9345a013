"""What each intervention costs: one step with it over one step of plain SGD, on the same net in the same rounds.

    python benchmarks/interventions.py [--widths 100 2000] [--rounds 9] [--threads 2] [names ...]

MLP 784-[width]*3-10, batch 32, plain SGD, default options. CBP is to stay within 1.3 at width 2000, 1.6 at width 100.
Work at task boundaries is not in a step and is not timed here.
"""

import argparse

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table

from lop.algos import INTERVENTIONS
from lop.nets import MLP
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.utils.seeding import make_generator

AT_BOUNDARIES_ONLY = {"head_reset", "network_reset", "sdp", "gosc", "step_schedule", "early_stopping"}
CASES = {
    **{name: (name, {}) for name in INTERVENTIONS if name not in AT_BOUNDARIES_ONLY},
    "cbp, rate 1e-5": ("cbp", {"replacement_rate": 1e-5}),
    "shrink_and_perturb, noise": ("shrink_and_perturb", {"form": "noise"}),
    "ewc, after a task": ("ewc", {}),
}


class Anchored:
    """A task that only knows its reference batch: gives EWC its anchor before the timing starts."""

    active = None

    def __init__(self, batch: tuple[torch.Tensor, torch.Tensor]):
        self._batch = batch

    def reference(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), help="cases, default all: " + ", ".join(CASES))
    parser.add_argument("--widths", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for width in options.widths:
        measure(width, ["bp", *(name for name in options.names if name != "bp")], options.rounds, options.device)


def measure(width: int, names: list[str], rounds: int, device: str) -> None:
    generator = make_generator(0, "batch")
    x = torch.randn(32, 784, generator=generator).to(device)
    y = torch.randint(0, 10, (32,), generator=generator).to(device)
    cases = {}
    for case in names:
        name, options = CASES[case]
        net = MLP((784,), 10, hidden=[width] * 3)
        initialise_(net, make_generator(0, "net"))
        net.to(device)
        learner = Learner(net, get_optimizer("sgd", net, lr=0.003), [INTERVENTIONS[name](**options)])
        if case == "ewc, after a task":
            learner.set_task(Anchored((x, y)))
            learner.end_task(learner.task)
        cases[case] = lambda learner=learner: learner.learn(x, y)
    repeats = max(1, 10_000 // width)
    times = interleaved_times(cases, rounds=rounds, repeats=repeats, warmup=2, device=device)
    print(f"\nMLP 784-[{width}]*3-10, batch 32, plain SGD, {device}, {torch.get_num_threads()} threads")
    rows = [(case, median_ms(times, case), median_ratio(times, case, "bp")) for case in names]
    print_table(["intervention", "ms per step", "x plain SGD"], rows)


if __name__ == "__main__":
    main()
