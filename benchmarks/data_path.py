"""What the data path costs: the training loop on real batches against the same loop on one constant batch.

CIFAR-shaped images with augmentation (random pixels: the time does not depend on them), and online permuted images
at batch size 1 against bare forward, backward and update. `python benchmarks/data_path.py [--device cuda] [--width 64]`
"""

import argparse

import torch
from _timing import interleaved_times, median_ms, median_ratio, print_table
from torch.nn import functional as F

from lop.data.augment import Augmentation
from lop.data.image_task import ImageTask
from lop.data.pixels import channel_values, scale
from lop.data.sources import load_images
from lop.incremental_cifar.stream import MEAN, STD
from lop.nets import NETS, Net
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.permuted_mnist.stream import permute_pixels
from lop.training.learner import Learner
from lop.training.online import OnlineRecorder
from lop.utils.seeding import make_generator


def cifar_task(device: str, examples: int, batch_size: int) -> ImageTask:
    generator = make_generator(0, "pixels")
    images = torch.randint(256, (examples, 3, 32, 32), generator=generator).to(torch.uint8)
    labels = torch.randint(100, (examples,), generator=generator)
    mean, std = channel_values(MEAN, device), channel_values(STD, device)
    return make_task(images, labels, device, batch_size, lambda x: scale(x, mean, std), Augmentation())


def online_task(device: str, examples: int) -> ImageTask:
    images, labels = load_images("digits").splits["train"]
    images = torch.nn.functional.interpolate(images.float(), (28, 28)).to(torch.uint8)  # MNIST's size
    rows = torch.arange(examples) % len(labels)
    permutation = torch.randperm(784, generator=make_generator(0, "permutation")).to(device)
    return make_task(images[rows], labels[rows], device, 1, lambda x: permute_pixels(permutation, x), None)


def make_task(images, labels, device, batch_size, prepare, augment) -> ImageTask:
    return ImageTask(
        index=0,
        active=None,
        epochs=1,
        steps_per_epoch=len(labels) // batch_size,
        batch_size=batch_size,
        seed=0,
        splits={"train": (images.to(device), labels.to(device))},
        prepare=prepare,
        augment=augment,
    )


def make_net(name: str, shape: tuple[int, ...], outputs: int, device: str, **options) -> Net:
    net = NETS[name](shape, outputs, **options).to(device)
    initialise_(net, make_generator(0, "net", device=device))
    return net


def make_learner(net: Net) -> Learner:
    return Learner(net, get_optimizer("sgd", net, lr=0.01))


def train(learner: Learner, batches) -> None:
    recorder = OnlineRecorder(classification=True)
    for x, y in batches:
        recorder.record(learner.learn(x, y), y)
    recorder.close_bin()


def bare(net: Net, batches) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=8, help="channels of ResNet-18's first stage (the paper: 64)")
    parser.add_argument("--steps", type=int, default=25, help="steps of 90 images per round")
    parser.add_argument("--online-steps", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=100, help="width of the online MLP's three hidden layers")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    device = options.device

    cifar = cifar_task(device, 90 * options.steps, 90)
    resnet = make_learner(make_net("resnet18", (3, 32, 32), 100, device, width=options.width))
    constant = next(cifar.batches(0))
    online = online_task(device, options.online_steps)
    bare_mlp, mlp = (make_net("mlp", (1, 28, 28), 10, device, hidden=[options.hidden] * 3) for _ in range(2))
    learner = make_learner(mlp)
    one = next(online.batches(0))
    cases = {
        "cifar, data path alone": lambda: list(cifar.batches(0)),
        "cifar, constant batch": lambda: train(resnet, [constant] * options.steps),
        "cifar, augmented batches": lambda: train(resnet, cifar.batches(0)),
        "online, data path alone": lambda: list(online.batches(0)),
        "online, bare loop on one example": lambda: bare(bare_mlp, [one] * options.online_steps),
        "online, whole loop": lambda: train(learner, online.batches(0)),
    }
    times = interleaved_times(cases, rounds=options.rounds, device=device)
    rows = []
    for name in cases:
        is_cifar = name.startswith("cifar")
        images = 90 * options.steps if is_cifar else options.online_steps
        reference = "cifar, constant batch" if is_cifar else "online, bare loop on one example"
        rate = 1e3 * images / median_ms(times, name)
        rows.append((name, rate, 100 / median_ratio(times, name, reference)))
    print_table(("loop", "images/s", "% of the reference's rate"), rows)


if __name__ == "__main__":
    main()
