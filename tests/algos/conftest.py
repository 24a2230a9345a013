from dataclasses import dataclass, field

import pytest
import torch

from lop.nets import NETS
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.utils.seeding import make_generator

SHAPES = {"mlp": (12,), "actor_critic": (12,), "convnet": (1, 12, 12), "resnet18": (3, 8, 8)}
SMALL = {
    "actor_critic": {"hidden": [8, 7]},
    "mlp": {"hidden": [8, 7]},
    "convnet": {"channels": [4, 5], "kernel_sizes": [3, 3], "hidden": [6]},
    "resnet18": {"width": 4, "blocks": [1, 1]},
}


@dataclass
class SmallTask:
    """A few random examples in three splits."""

    input_shape: tuple[int, ...]
    index: int = 0
    active: torch.Tensor | None = None
    batch_size: int = 8
    splits: dict = field(default_factory=dict)

    def __post_init__(self):
        for split in ("train", "validation", "test"):
            generator = make_generator(self.index, "small task", split)
            x = torch.randn(48, *self.input_shape, generator=generator)
            self.splits.setdefault(split, (x, torch.randint(0, 4, (48,), generator=generator)))

    @property
    def steps_per_epoch(self):
        return len(self.batches())

    def batches(self, epoch=0, start=0):
        x, y = self.splits["train"]
        return list(zip(x.split(self.batch_size), y.split(self.batch_size), strict=True))[start:]

    def reference(self, size):
        x, y = self.splits["train"]
        return x[:size], y[:size]

    def evaluation(self, split, limit=None):
        if split in self.splits:
            yield self.splits[split]


@pytest.fixture
def build():
    """(learner, task) of a small net; everything follows from the arguments."""

    def make(
        *interventions, net="mlp", optimizer="sgd", lr=0.05, seed=0, net_options=None, double=False, **hyperparameters
    ):
        module = NETS[net](SHAPES[net], 4, **{**SMALL[net], **(net_options or {})})
        initialise_(module, make_generator(seed, "net"))
        module = module.double() if double else module
        opt = get_optimizer(optimizer, module, **({} if lr is None else {"lr": lr}), **hyperparameters)
        task = SmallTask(SHAPES[net])
        if double:
            task.splits = {name: (x.double(), y) for name, (x, y) in task.splits.items()}
        return Learner(module, opt, interventions, seed=seed), task

    return make


@pytest.fixture
def small_task():
    return lambda net="mlp", index=0, **options: SmallTask(SHAPES[net], index, **options)
