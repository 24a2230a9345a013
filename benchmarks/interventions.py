"""What each intervention costs: one step with it over one step of plain SGD, on the same net in the same rounds.

    python benchmarks/interventions.py [--widths 100 2000] [--rounds 9] [--threads 2] [--cpu-time] [names ...]

MLP 784-[width]*3-10, batch 32, plain SGD, default options. CBP is to stay within 1.3 at width 2000, 1.6 at width 100.
Of those that act at task boundaries, what a boundary costs, in plain SGD steps. --cpu-time counts the time that the
process computes (with one thread), for a machine that others use, too.
"""

import argparse
import time
from collections.abc import Callable

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table

from lop.algos import INTERVENTIONS
from lop.nets import MLP
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.utils.seeding import make_generator

AT_BOUNDARIES = {"head_reset", "network_reset", "sdp", "gosc", "fire", "dash"}
OTHERS = {"step_schedule", "early_stopping"}  # a few numbers, and the validation's cost
CASES: dict[str, tuple[str, dict]] = {
    **{name: (name, {}) for name in INTERVENTIONS if name not in OTHERS},
    "bp, layer_norm": ("bp", {}),
    "cbp, rate 1e-5": ("cbp", {"replacement_rate": 1e-5}),
    "shrink_and_perturb, noise": ("shrink_and_perturb", {"form": "noise"}),
    "ewc, after a task": ("ewc", {}),
    "regrama, a step that resets": ("regrama", {"period": 1}),
    "cpr, a step that resets": ("cpr", {"period": 1}),
    "swr, a step that resets": ("swr", {"period": 1}),
}
NETS = {"nap": {"layer_norm": True}, "bp, layer_norm": {"layer_norm": True}}


class OneBatch:
    """A task of one batch, again and again: 100 times in an epoch, and as its reference."""

    active, steps_per_epoch = None, 100

    def __init__(self, batch: tuple[torch.Tensor, torch.Tensor]):
        self._batch = batch

    def batches(self, epoch: int, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [self._batch] * (self.steps_per_epoch - start)

    def reference(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES), help="cases, default all: " + ", ".join(CASES))
    parser.add_argument("--widths", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for width in options.widths:
        names = ["bp", *(name for name in options.names if name != "bp")]
        clock = time.process_time if options.cpu_time else time.perf_counter
        measure(width, names, options.rounds, options.device, clock)


def measure(width: int, names: list[str], rounds: int, device: str, clock: Callable[[], float]) -> None:
    generator = make_generator(0, "batch")
    x = torch.randn(32, 784, generator=generator).to(device)
    y = torch.randint(0, 10, (32,), generator=generator).to(device)
    cases: dict[str, Callable[[], object]] = {}
    for case in names:
        name, options = CASES[case]
        net = MLP((784,), 10, hidden=[width] * 3, **NETS.get(case, {}))
        initialise_(net, make_generator(0, "net"))
        net.to(device)
        learner = Learner(net, get_optimizer("sgd", net, lr=0.003), [INTERVENTIONS[name](**options)])
        task = OneBatch((x, y))
        learner.set_task(task)
        if case == "ewc, after a task":
            learner.end_task(task)
        cases[case] = lambda learner=learner: learner.learn(x, y)
        if name in AT_BOUNDARIES:
            learner.start_task(task)
            cases[case] = lambda learner=learner, task=task: (learner.end_task(task), learner.start_task(task))
    boundaries = [case for case in names if CASES[case][0] in AT_BOUNDARIES]
    steps = [case for case in names if case not in boundaries]
    print(f"\nMLP 784-[{width}]*3-10, batch 32, plain SGD, {device}, {torch.get_num_threads()} threads")
    for what, part, repeats in (("step", steps, max(1, 10_000 // width)), ("task boundary", boundaries, 1)):
        if not part or part == ["bp"]:
            continue
        timed = {case: cases[case] for case in dict.fromkeys(["bp", *part])}
        times = interleaved_times(timed, rounds=rounds, repeats=repeats, warmup=2, device=device, clock=clock)
        rows = [(case, median_ms(times, case), median_ratio(times, case, "bp")) for case in part]
        print_table(["intervention", f"ms per {what}", "x plain SGD step"], rows)


if __name__ == "__main__":
    main()
