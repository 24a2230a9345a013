"""Members of a stack in a small form: their nets, optimizers, tasks, and how they are compared with single runs."""

import io
from dataclasses import dataclass

import plugged
import torch
from eager import EAGER

from lop.algos import INTERVENTIONS, Intervention
from lop.nets import NETS
from lop.nets.init import initialise_
from lop.optimizers import OPTIMIZERS, get_optimizer
from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator

SHAPES = {"mlp": (12,), "actor_critic": (12,), "convnet": (1, 12, 12), "resnet18": (3, 8, 8)}
SMALL = {
    "mlp": {"hidden": [8, 7]},
    "convnet": {"channels": [4, 5], "kernel_sizes": [3, 3], "hidden": [6]},
    "resnet18": {"width": 4, "blocks": [1, 1]},
}
# With these every optimizer moves the weights well within a few steps.
STACKED = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"lr": 0.003, "amsgrad": True},
    "adamw": {"lr": 0.003},
    "nadam": {"lr": 0.003},
    "radam": {"lr": 0.003},
    "adamax": {"lr": 0.003},
    "rmsprop": {"lr": 0.003, "momentum": 0.9, "centered": True},
    "adagrad": {"lr": 0.01, "lr_decay": 0.01},
    "adadelta": {"lr": 0.5},
    "rprop": {"lr": 0.001},
    "asgd": {"lr": 0.01},
    "adahessian": {"lr": 0.02, "lazy_hessian": 2},
    "sophiah": {"lr": 0.003, "lazy_hessian": 3, "n_samples": 2},
    "sophiag": {"lr": 0.003, "lazy_hessian": 3},
    "sassha": {"lr": 0.02, "lazy_hessian": 3, "weight_decay": 0.01},
    "msassha": {"lr": 0.02, "lazy_hessian": 3, "adaptive": True, "hessian_power": 1.0},  # a root of ~0 is all rounding
    "sam": {"lr": 0.05, "base": "adahessian"},
    "asam": {"lr": 0.05},
    "upgd": {"lr": 0.05, "adaptive": True, "second_order": True, "lazy_hessian": 2},
    "muon": {"lr": 0.02, "adam_lr": 0.003, "weight_decay": 0.01},
    "trac": {"lr": 0.01, "scale": 0.05, "discounts": [0.9, 0.99]},
} | {
    name: plugged.options.get(name, {})
    for name in plugged.names
    if getattr(OPTIMIZERS.get(name), "stackable", False) is True
}
LESS_EAGER = {  # units of so small a net live a while, so that members differ in which are reset
    "cbp": {"replacement_rate": 0.1, "maturity_threshold": 2},
    "redo": {"period": 4, "threshold": 0.5},
    "snr": {"min_time": 1, "max_time": 16, "refresh": 2, "eta": 0.4},
    "l2_init": {"resample": True, "weight": 0.01},
}
OPTIONS = EAGER | LESS_EAGER
SEEDS = (0, 1, 2)


@dataclass
class Examples:
    """A task of one member: three batches in two epochs."""

    net: str
    seed: int
    index: int
    active: torch.Tensor | None = None

    def __post_init__(self):
        generator = make_generator(self.seed, "examples", self.index)
        self.x = torch.randn(48, *SHAPES[self.net], generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 3, (48,), generator=generator)
        if self.index == 1:  # another number of outputs in each task, of other outputs in each member
            self.active = torch.tensor([0, 1, 2]) if self.seed else torch.tensor([0, 1, 2, 3])

    @property
    def steps_per_epoch(self):
        return 4

    def batches(self, epoch=0, start=0):
        return list(zip(self.x.split(10), self.y.split(10), strict=True))[start:4]

    def reference(self, size):
        return self.x[:size], self.y[:size]

    def evaluation(self, split, limit=None):
        yield self.x, self.y


def make_learner(seed, optimizer="sgd", algos=(), net="mlp", net_options=None, loss="cross_entropy", **options):
    module = NETS[net](SHAPES[net], 4, **{**SMALL[net], **(net_options or {})}).double()
    initialise_(module, make_generator(seed, "net"))
    module.double()
    hyperparameters = {**STACKED.get(optimizer, {}), **options}
    made = get_optimizer(optimizer, module, seed=seed, **hyperparameters)
    interventions = [
        algo if isinstance(algo, Intervention) else INTERVENTIONS[algo](**OPTIONS.get(algo, {})) for algo in algos
    ]
    return Learner(module, made, interventions, seed=seed, loss=loss)


def train(population, seeds=SEEDS, tasks=(0, 1, 2), net="mlp", after=lambda step: None):
    """Tasks of two epochs of four batches, as the loop of a run does it. -> results, one row per step."""
    rows, step = [], 0
    for index in tasks:
        current = [Examples(net, seed, index) for seed in seeds]
        population.start_task(current)
        for epoch in range(2):
            population.start_epoch(current, epoch)
            for batches in zip(*(task.batches() for task in current), strict=True):
                rows.append(population.learn(batches))
                step += 1
                after(step)
            population.end_epoch(current, epoch)
        population.hand_in(current)
        population.end_task(current)
    return rows


def flat(value):
    """All tensors and numbers in nested state, in order, as (path, float64 tensor)."""
    if isinstance(value, torch.Tensor):
        return [value.detach().double().reshape(-1)]
    if isinstance(value, dict):
        return [t for key in sorted(value, key=str) for t in flat(value[key])]
    if isinstance(value, list | tuple):
        return [t for item in value for t in flat(item)]
    if isinstance(value, bool | int | float):
        return [torch.tensor([float(value)], dtype=torch.float64)]
    return []


def assert_same_state(learner, single):
    ours, theirs = learner.state_dict(), single.state_dict()
    assert ours.keys() == theirs.keys()
    for key in ours:
        mine, other = flat(ours[key]), flat(theirs[key])
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=True, msg=lambda m, key=key: f"{key}: {m}")


def assert_stack_equals_singles(make, net="mlp", tasks=(0, 1, 2)):
    """make(seed) -> Learner. Everything that can be seen of a member: results of every step, and its whole state."""
    stacked = StackedPopulation([make(seed) for seed in SEEDS])
    singles = Population([make(seed) for seed in SEEDS])
    sizes = []
    rows = train(
        stacked, net=net, tasks=tasks, after=lambda step: sizes.append([len(b.learners) for b in stacked.blocks])
    )
    expected = train(singles, net=net, tasks=tasks)
    assert all(size == [3] for size in sizes)  # one computation at every step
    for row, single_row in zip(rows, expected, strict=True):
        for result, single in zip(row, single_row, strict=True):
            torch.testing.assert_close(result.loss, single.loss, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(result.logits, single.logits, rtol=1e-9, atol=1e-9)
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)
    first, second = (next(learner.net.parameters()) for learner in stacked.learners[:2])
    assert not torch.equal(first, second)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
