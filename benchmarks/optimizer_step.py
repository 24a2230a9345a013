"""What one step of every optimizer costs, as a multiple of a plain SGD step on the same net in the same process.

    python benchmarks/optimizer_step.py                              # MLP 2000 and 100 wide, ResNet-18 at batch 16
    python benchmarks/optimizer_step.py --nets mlp100 --optimizers sassha kfac
    python benchmarks/optimizer_step.py --nets mlp2000 --compile     # and the compiled updates, with their warm-up

Each figure is the median over rounds in which all optimizers take turns; a round is a cycle of the lazy schedule (10
steps), so that refreshes count with their share. K-FAC's inversions, every T_inv = 100 steps, are timed apart and
added with theirs. `theory` counts passes over the net: forward 1, backward 2, the Hessian-vector product's double
backward 4; plain SGD is 3. K-FAC: forward 1, backward to the layers' outputs 1, factors 2 every 10 steps,
preconditioning 2, outer products 1. `state` is what is held between steps, work memory included, `peak` the most held
beyond that within a step (gradients, graphs and temporary tensors), both over the parameters' size.
"""

import argparse
import os
import time
from collections.abc import Callable

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table, synchronize
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18
from lop.optimizers import ClosureOptimizer, get_optimizer, optimizer_options
from lop.optimizers.kfac import KFAC
from lop.optimizers.kfac_factors import invert_factors
from lop.optimizers.multi_tensor import Signs
from lop.utils.seeding import make_generator

CYCLE = 10

# name: (optimizer, options, passes of one average step)
CASES = {
    "sgd": ("sgd", {}, 3.0),
    "adam": ("adam", {}, 3.0),
    "adahessian": ("adahessian", {"lazy_hessian": CYCLE}, 3 + 4 / CYCLE),
    "sophiah": ("sophiah", {"lazy_hessian": CYCLE}, 3 + 4 / CYCLE),
    "sophiag": ("sophiag", {"lazy_hessian": CYCLE}, 3 + 2 / CYCLE),
    "sassha": ("sassha", {"lazy_hessian": CYCLE}, 6 + 4 / CYCLE),
    "msassha": ("msassha", {"lazy_hessian": CYCLE}, 4 + 4 / CYCLE),
    "sam": ("sam", {}, 6.0),
    "kfac": ("kfac", {"T_inv": 10**9}, 5.2),
    "shampoo": ("shampoo", {"update_freq": CYCLE}, 3.0),
    "upgd": ("upgd", {}, 3.0),
    "upgd2": ("upgd", {"second_order": True, "lazy_hessian": CYCLE}, 3 + 4 / CYCLE),
    "muon": ("muon", {}, 3.0),
    "trac": ("trac", {}, 3.0),
}

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp2000": (lambda: MLP((784,), 10, hidden=[2000] * 3), (32, 784), 10),
    "mlp100": (lambda: MLP((784,), 10, hidden=[100] * 3), (32, 784), 10),
    "resnet18": (lambda: ResNet18((3, 32, 32), 100), (16, 3, 32, 32), 100),
}


class Case:
    """One net with one optimizer and a fixed batch."""

    def __init__(self, net_name: str, name: str, device: str, **more: bool):
        build, shape, classes = NETS[net_name]
        optimizer, options, self.passes = CASES[name]
        self.net = build()
        initialise_(self.net, make_generator(0, "net"))
        self.net.to(device)
        generator = make_generator(0, "data")
        self.x = torch.rand(shape, generator=generator).to(device)
        self.y = torch.randint(0, classes, shape[:1], generator=generator).to(device)
        self.optimizer: ClosureOptimizer = get_optimizer(optimizer, self.net, lr=1e-4, **options, **more)

    def loss(self) -> Tensor:
        return cross_entropy(self.net(self.x), self.y)

    def cycle(self) -> None:
        for _ in range(CYCLE):
            self.optimizer.step(self.loss)

    def inversion_ms(self, interval: int = 100) -> float:
        """Milliseconds per step that K-FAC's inversions add at `T_inv = interval`."""
        if not isinstance(self.optimizer, KFAC):
            return 0.0
        device = self.x.device
        synchronize(device)
        start = time.perf_counter()
        for state in self.optimizer.state.values():
            invert_factors(state)
        synchronize(device)
        return 1e3 * (time.perf_counter() - start) / interval

    def memory(self) -> tuple[float, float]:
        """(held between steps, most within a refresh step beyond that), over the parameters' bytes."""
        size = sum(p.numel() * p.element_size() for p in self.net.parameters())
        kept = {k: v for k, v in vars(self.optimizer).items() if k.startswith("_kept_")}
        storages = {t.untyped_storage() for t in _tensors([self.optimizer.state, kept])}
        held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
        return held / size, self._peak_bytes() / size

    def _peak_bytes(self) -> float:
        if self.x.is_cuda:
            before = torch.cuda.memory_allocated(self.x.device)
            torch.cuda.reset_peak_memory_stats(self.x.device)
            self.optimizer.step(self.loss)
            return torch.cuda.max_memory_allocated(self.x.device) - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
            self.optimizer.step(self.loss)
        current = peak = 0
        for event in trace.profiler.kineto_results.events():
            if event.name() == "[memory]":
                current += event.nbytes()
                peak = max(peak, current)
        return peak


def _tensors(state: object):
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)
    elif isinstance(state, Signs):
        yield from _tensors(vars(state))


def bare_sgd(net_name: str, device: str) -> Callable[[], None]:
    """The loop a user would write by hand, without this package."""
    case = Case(net_name, "sgd", device)
    optimizer = torch.optim.SGD(case.net.parameters(), lr=1e-4)

    def cycle() -> None:
        for _ in range(CYCLE):
            optimizer.zero_grad()
            case.loss().backward()
            optimizer.step()

    return cycle


def with_compiled(net_name: str, names: list[str], device: str) -> dict[str, Case]:
    """The compiled twins of those optimizers that have one, after a first step whose seconds are printed."""
    cases = {}
    for name in names:
        if "compile" in optimizer_options(CASES[name][0]):
            case = cases[f"{name}, compiled"] = Case(net_name, name, device, compile=True)
            start = time.perf_counter()
            case.optimizer.step(case.loss)
            print(f"warm-up of {name}, compiled, on {net_name}: {time.perf_counter() - start:.1f} s", flush=True)
    return cases


def measure(net_name: str, names: list[str], device: str, rounds: int, *, compiled: bool) -> list[list[object]]:
    cases = {name: Case(net_name, name, device) for name in dict.fromkeys(["sgd", *names])}
    if compiled:
        cases |= with_compiled(net_name, names, device)
    calls = {name: case.cycle for name, case in cases.items()} | {"sgd, bare loop": bare_sgd(net_name, device)}
    times = interleaved_times(calls, rounds=rounds, device=device)
    sgd_ms = median_ms(times, "sgd") / CYCLE
    rows = []
    for name in calls:
        ms, ratio = median_ms(times, name) / CYCLE, median_ratio(times, name, "sgd")
        if name not in cases:
            rows.append([name, net_name, ms, ratio, 1.0, "", ""])
            continue
        extra = cases[name].inversion_ms()
        held, peak = cases[name].memory()
        rows.append([name, net_name, ms + extra, ratio + extra / sgd_ms, cases[name].passes / 3, held, peak])
    return rows


def main() -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's start and stop are no news here
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--optimizers", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="also with compile=True, and what the warm-up costs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    header = ["optimizer", "net", "ms", "x SGD", "theory", "state / params", "peak / params"]
    for net_name in options.nets:
        rows = measure(net_name, options.optimizers, options.device, options.rounds, compiled=options.compile)
        print_table(header, rows)
        print(flush=True)


if __name__ == "__main__":
    main()
