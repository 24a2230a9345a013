"""What a dashboard call costs, in plain SGD steps on the same net in the same process.

A call is the eleven diagnostics on the reference batch (64 inputs, NTK on 32); accuracy over the training and
test splits is not in it, since it grows with the splits. The rows below a net's total are what each diagnostic
costs on top of those above it (they share passes). `python benchmarks/dashboard.py [--device cuda] [--nets mlp]`
"""

import argparse
from types import SimpleNamespace

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table
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


def cases(make_net, shape, outputs: int, batch: int, device: str) -> dict:
    """One SGD step, and what the dashboard measures before a task, up to and including each diagnostic."""
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
    with torch.no_grad():
        earlier = net(x[:64])

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x[:batch]), y[:batch]).backward()
        optimizer.step()

    def measure(names):
        with probing(net, optimizer):
            probe = Probe(learner, task, settings, earlier_outputs=earlier)
            return [METRICS[name].compute(probe) for name in names]

    names = [name for name in CORE if name not in EVALUATED]
    upto = {name: names[: i + 1] for i, name in enumerate(names)}
    return {"step": step, **{name: (lambda chosen=chosen: measure(chosen)) for name, chosen in upto.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = []
    for key in options.nets.split(","):
        title, make_net, shape, outputs, batch = NETS[key]
        timed = cases(make_net, shape, outputs, batch, options.device)
        times = interleaved_times(timed, rounds=options.rounds, device=options.device)
        *_, last = timed
        rows.append([title, "SGD step", median_ms(times, "step"), 1.0])
        rows.append(["", "all eleven", median_ms(times, last), median_ratio(times, last, "step")])
        previous = 0.0
        for name in list(timed)[1:]:
            so_far = median_ratio(times, name, "step")
            rows.append(["", f"  {name}", "", max(so_far - previous, 0.0)])
            previous = max(previous, so_far)
    print_table(["net", "what", "ms", "SGD steps"], rows)


if __name__ == "__main__":
    main()
