"""What a step costs on a device, beside the bare torch loop and the least that the device could take.

    python benchmarks/gpu.py                              # on cuda: a few minutes
    python benchmarks/gpu.py --nets mlp100 --members 1,64
    python benchmarks/gpu.py --device cpu --rounds 3      # the same table on the CPU

`step`: one update of every member by the package, in microseconds. `bare`: forward, backward and SGD written in
torch, of one net. `graphed`: the bare loop captured as one CUDA graph and replayed, so that what launches cost is gone
(the package captures none). `limit`: the larger of the floating-point operations of `bare` over the device's
rate and the bytes that one SGD step must move over its bandwidth, both measured here by a large product and a large
copy. `x bare`, `x limit`, and `x one`, a step of all members over that of one, are medians of ratios within one
process. ResNet-18 is in channels-last order; `bf16` is autocast around the forward pass.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from _timing import interleaved_times, median_ratio, print_table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from lop.nets.convnet import CNN
from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator

Step = Callable[[], object]
SGD_PASSES = 6  # over the parameters: read forward and backward, gradient written and read, parameter read and written


@dataclass(frozen=True)
class Problem:
    """A net and its batch."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    channels_last: bool = False

    def make(self, device: torch.device, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
        net = self.build()
        initialise_(net, make_generator(seed, "net"))
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        generator = make_generator(seed, "data")
        x = torch.rand(self.shape, generator=generator).to(device, memory_format=order)
        y = torch.randint(self.classes, self.shape[:1], generator=generator).to(device)
        return net.to(device, memory_format=order), x, y


PROBLEMS = {
    "mlp100": Problem(lambda: MLP((784,), 10, hidden=[100] * 3), (32, 784), 10),
    "mlp2000": Problem(lambda: MLP((784,), 10, hidden=[2000] * 3), (32, 784), 10),
    "cnn": Problem(lambda: CNN((3, 32, 32), 10), (32, 3, 32, 32), 10),
    "resnet18": Problem(lambda: ResNet18((3, 32, 32), 100), (90, 3, 32, 32), 100, channels_last=True),
}
STACKED = ("mlp100", "mlp2000")  # more members than one are measured of these


@contextlib.contextmanager
def _precision(device: torch.device, bf16: bool) -> Iterator[None]:
    with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
        yield


def package_step(problem: Problem, optimizer: str, members: int, device: torch.device, bf16: bool) -> Step:
    """One update of every member by a learner, or a population of them."""
    learners, batches = [], []
    for seed in range(members):
        net, x, y = problem.make(device, seed)
        learners.append(Learner(net, get_optimizer(optimizer, net, lr=1e-4, seed=seed), seed=seed))
        batches.append((x, y))
    population = StackedPopulation(learners) if members > 1 else Population(learners)

    def step() -> None:
        with _precision(device, bf16):
            population.learn(batches)

    return step


def bare_step(problem: Problem, device: torch.device, bf16: bool) -> Step:
    """Forward, backward and SGD of one net, nothing else."""
    net, x, y = problem.make(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with _precision(device, bf16):
            loss = cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()

    return step


def graphed(step: Step) -> Step:
    """The step as one CUDA graph, captured after a few ordinary ones on a stream of their own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _rate(device: torch.device, work: float, call: Step) -> float:
    """Work per second, the best of a few."""
    times = interleaved_times({"it": call}, rounds=5, repeats=3, warmup=2, device=device)
    return work / min(times["it"])


def device_rates(device: torch.device, side: int, bf16: bool) -> tuple[float, float]:
    """(operations, bytes) per second that the device reaches on a product of matrices and on a copy."""
    a = torch.rand(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    source = torch.rand(side * side * 4, device=device)
    target = torch.empty_like(source)
    operations = _rate(device, 2.0 * side**3, lambda: torch.mm(a, a))
    moved = _rate(device, 2.0 * source.numel() * 4, lambda: target.copy_(source))
    return operations, moved


def counted(problem: Problem, device: torch.device) -> tuple[int, int]:
    """(operations, bytes) of one SGD step: products and convolutions, forward and backward; parameters and inputs."""
    net, x, y = problem.make(device)
    with FlopCounterMode(display=False) as counter:
        cross_entropy(net(x), y).backward()
    parameters = sum(p.numel() * p.element_size() for p in net.parameters())
    return counter.get_total_flops(), SGD_PASSES * parameters + x.numel() * x.element_size()


def rows(name: str, options: argparse.Namespace, device: torch.device, bf16: bool) -> list[list[object]]:
    problem, members = PROBLEMS[name], [int(size) for size in options.members.split(",")]
    sizes = members if name in STACKED and not bf16 else [1]
    cases: dict[str, Step] = {"bare": bare_step(problem, device, bf16)}
    if device.type == "cuda":
        cases["graphed"] = graphed(bare_step(problem, device, bf16))
    for optimizer in options.optimizers.split(","):
        for size in sorted({1, *sizes}):
            cases[f"{optimizer} {size}"] = package_step(problem, optimizer, size, device, bf16)
    times = interleaved_times(cases, rounds=options.rounds, repeats=options.repeats, warmup=2, device=device)
    per_second = device_rates(device, options.side, bf16)
    limit = max(amount / rate for amount, rate in zip(counted(problem, device), per_second, strict=True))
    table = []
    for case, seconds in times.items():
        optimizer, _, size = case.partition(" ")
        step = sorted(seconds)[len(seconds) // 2]
        one = median_ratio(times, case, f"{optimizer} 1") if size else ""
        precision = "bf16" if bf16 else "float32"
        table.append([name, precision, optimizer, size or 1, 1e6 * step, median_ratio(times, case, "bare"), one])
        table[-1] += [1e6 * limit, step / limit] if (size or "1") == "1" else ["", ""]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--nets", default=",".join(PROBLEMS))
    parser.add_argument("--optimizers", default="sgd,adam,sassha")
    parser.add_argument("--members", default="1,16,64,256")
    parser.add_argument("--bf16", action="store_true", help="autocast, too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=10, help="steps in a row: a cycle of lazy curvature")
    parser.add_argument("--side", type=int, default=4096, help="of the matrices of the product that is measured")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --device cpu prints the same table for the CPU")
    torch.set_num_threads(1)
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else device, f"torch {torch.__version__}")
    table: list[list[object]] = []
    for name in options.nets.split(","):
        for bf16 in (False, True) if options.bf16 else (False,):
            table += rows(name, options, device, bf16)
    header = ["net", "precision", "what", "members", "step, us", "x bare", "x one", "limit, us", "x limit"]
    print_table(header, table)


if __name__ == "__main__":
    main()
