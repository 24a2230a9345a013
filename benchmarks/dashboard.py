"""What a dashboard call costs, in plain SGD steps on the same net in the same process.

A call is the eleven diagnostics on the reference batch (64 inputs, NTK on 32); accuracy over the training and
test splits is not in it, since it grows with the splits. The rows below a net's total are the shares of the single
diagnostics, in the dashboard's order: the first that needs a shared pass pays for it.
`python benchmarks/dashboard.py [--device cuda] [--nets mlp]`
"""

import argparse
import statistics
import time
from types import SimpleNamespace

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table, synchronize
from torch.nn import functional as F

from lop.metrics import CORE, METRICS, Dashboard, probing
from lop.metrics.probe import Probe
from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18
from lop.utils.seeding import make_generator

NETS = {  # net, input shape, outputs, batch size of the SGD step
    "mlp": ("MLP 784-[2000]*3-10, batch 32", MLP, (784,), 10, 32),
    "resnet": ("ResNet-18, batch 90", ResNet18, (3, 32, 32), 100, 90),
}
EVALUATED = ("loss", "train_acc", "test_acc")


def cases(make_net, shape, outputs: int, batch: int, device: str) -> tuple[dict, list[dict[str, float]]]:
    """The two things to time, an SGD step and a dashboard call; and where each call notes the shares of its time."""
    generator = make_generator(0, "benchmark")
    net = make_net(shape, outputs)
    initialise_(net, generator)
    net.to(device)
    x = torch.rand(max(batch, 64), *shape, generator=generator).to(device)
    y = torch.randint(0, outputs, (len(x),), generator=generator).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    learner = SimpleNamespace(net=net, optimizer=optimizer, loss="cross_entropy", predict=net)
    task = SimpleNamespace(index=0, active=None, reference=lambda size: (x[:size], y[:size]))
    settings = Dashboard(learner).settings
    shares: list[dict[str, float]] = []
    with torch.no_grad():
        earlier = net(x[:64])

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x[:batch]), y[:batch]).backward()
        optimizer.step()

    def dashboard():
        seconds = {}
        with probing(net, optimizer):
            probe = Probe(learner, task, settings, earlier_outputs=earlier)
            for name in CORE:
                if name not in EVALUATED:
                    synchronize(device)
                    start = time.perf_counter()
                    METRICS[name].compute(probe)
                    synchronize(device)
                    seconds[name] = time.perf_counter() - start
        total = sum(seconds.values())
        shares.append({name: value / total for name, value in seconds.items()})

    return {"step": step, "dashboard": dashboard}, shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = []
    for key in options.nets.split(","):
        title, *sizes = NETS[key]
        timed, shares = cases(*sizes, options.device)
        times = interleaved_times(timed, rounds=options.rounds, device=options.device)
        ratio = median_ratio(times, "dashboard", "step")
        rows.append([title, "SGD step", median_ms(times, "step"), 1.0])
        rows.append(["", "dashboard call", median_ms(times, "dashboard"), ratio])
        for name in shares[0]:
            share = statistics.median(call[name] for call in shares)
            rows.append(["", f"  {name}", "", share * ratio])
    print_table(["net", "what", "ms", "SGD steps"], rows)


if __name__ == "__main__":
    main()
