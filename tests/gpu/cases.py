"""What the checks run: every optimizer, intervention and net in a small form, on a device named by the caller."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from eager import EAGER
from pretended import GPU, Pretended, host_generators, moved, no_waiting, pretended_gpu
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lop.algos import INTERVENTIONS
from lop.nets import NETS
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer, list_optimizers
from lop.training.learner import Learner
from lop.utils.seeding import make_generator

PRETENDED = "pretended"
SHAPES = {
    "mlp": (7,),
    "actor_critic": (7,),
    "discrete_actor_critic": (7,),
    "conv_actor_critic": (3, 10, 10),
    "convnet": (1, 12, 12),
    "cnn": (3, 12, 12),
    "resnet18": (3, 8, 8),
    "vit": (3, 8, 8),
}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [9, 8]},
    "actor_critic": {"hidden": [8, 7]},
    "discrete_actor_critic": {"hidden": [8, 7]},
    "conv_actor_critic": {"channels": [4], "kernel_sizes": [3], "hidden": [6]},
    "convnet": {"channels": [4, 5], "kernel_sizes": [3, 3], "hidden": [6]},
    "cnn": {"channels": [4, 5], "kernel_sizes": [3, 3], "hidden": [6]},
    "resnet18": {"width": 4, "blocks": [1, 1]},
    "vit": {"patch": 4, "width": 8, "heads": 2, "blocks": 1, "hidden": 6},
}
HESSIANS = ("adahessian", "sophiah", "sophiag", "sassha", "msassha")
OPTIMIZERS: dict[str, dict[str, Any]] = {name: {"lr": 0.01} for name in list_optimizers() if name != "sophia"} | {
    "lbfgs": {"lr": 0.1, "max_iter": 2},
    "rprop": {"lr": 0.001},
    "sgd": {"lr": 0.01, "momentum": 0.9},
    # with the default eps a curvature that is 0 but for rounding makes steps of any length
    **{name: {"lr": 0.01, "lazy_hessian": 2, "eps": 0.01} for name in HESSIANS},
    "kfac": {"lr": 0.01, "T_cov": 2, "T_inv": 3},
    "shampoo": {"lr": 0.01, "update_freq": 3},
}
DRAWING = (*HESSIANS, "upgd")
"""Optimizers that draw random numbers in their steps."""

WAITING = {
    "lbfgs": "its line search is on the host",
    "adafactor": "torch's reads the step size",
    "asgd": "torch's reads its step count",
}
"""Optimizers of torch whose steps wait for the device, and why: they are run, and not asked to do without."""

DECIDING = {
    "sdp": "looks whether a matrix is finite before it decomposes it",
    "gosc": "looks whether a matrix is finite before it decomposes it",
    "l2_er": "looks which layers have a rank at all",
}
"""Interventions whose action, every so many steps, waits for the device, and why."""

DOUBLE, SINGLE = 1e-8, 2e-2
"""Tolerances: of a dozen steps in float64, and in float32, where steps divide by what is nearly 0."""

NAMES = [name for name in OPTIMIZERS if name != "muon"]  # which takes matrices only


@dataclass
class SmallTask:
    """Random examples on a device, in three splits; the same on every device."""

    shape: tuple[int, ...]
    index: int
    device: Any
    dtype: torch.dtype
    seed: int = 0
    active: Tensor | None = None
    steps_per_epoch: int = 4
    epochs: int = 2
    splits: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            generator = make_generator(self.seed, "small task", split, self.index)
            x = torch.randn(40, *self.shape, generator=generator, dtype=torch.float64).to(self.dtype)
            y = torch.randint(0, 4, (40,), generator=generator)
            self.splits[split] = x.to(self.device), y.to(self.device)

    def batches(self, epoch: int = 0, start: int = 0) -> list[tuple[Tensor, Tensor]]:
        x, y = self.splits["train"]
        return list(zip(x.split(10), y.split(10), strict=True))[start:]

    def reference(self, size: int) -> tuple[Tensor, Tensor]:
        x, y = self.splits["train"]
        return x[:size], y[:size]

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        if split in self.splits:
            yield self.splits[split]


def make_learner(
    device: Any,
    dtype: torch.dtype,
    *,
    optimizer: str = "sgd",
    algos: Sequence[str] = (),
    net: str = "mlp",
    seed: int = 0,
) -> Learner:
    """Everything follows from the arguments; the same numbers on every device."""
    module = NETS[net](SHAPES[net], 4, **SMALL[net])
    initialise_(module, make_generator(seed, "net"))
    module = module.to(dtype)
    module = moved(module) if device == GPU and not torch.cuda.is_available() else module.to(device)
    interventions = [INTERVENTIONS[name](**EAGER.get(name, {})) for name in algos]
    made = get_optimizer(optimizer, module, seed=seed, **OPTIMIZERS[optimizer])
    return Learner(module, made, interventions, seed=seed)


def train(learner: Learner, task_of: Callable[[int], Any], tasks: int = 2, epochs: int = 2, guard=None) -> list[Tensor]:
    """As the loop of a run does it. -> the loss of every step, on the device. guard: a context for every step."""
    losses = []
    for index in range(tasks):
        task = task_of(index)
        learner.start_task(task)
        for epoch in range(epochs):
            learner.start_epoch(task, epoch)
            for step, (x, y) in enumerate(task.batches()):
                # the first update of all is checked on the host; state is made in it, too
                if guard is None or (index == epoch == 0 and step < 2):
                    losses.append(learner.learn(x, y).loss)
                else:
                    with guard():
                        losses.append(learner.learn(x, y).loss)
            learner.end_epoch(task, epoch)
        learner.hand_in(task)
        learner.end_task(task)
    return losses


def numbers(learner: Learner) -> list[Tensor]:
    """Parameters and buffers, on the CPU."""
    return [values(t) for t in (*learner.net.parameters(), *learner.net.buffers())]


def values(tensor: Tensor) -> Tensor:
    """On the CPU, in double precision."""
    tensor = tensor.detach()
    return (tensor.inner if isinstance(tensor, Pretended) else tensor.cpu()).double()


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of any entry, over the largest entry of its tensor. Inf where only one of two is finite.

    A tensor below 1e-6 is what rounding left of a zero (a bias before a normalisation): its own size is no measure.
    """
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if not torch.equal(a.isfinite(), b.isfinite()):
            return float("inf")
        a, b = a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)
        if b.numel():
            worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp(min=1e-6)))
    return worst


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """The CPU resets units as a GPU does, which draws for all of them as it does not know their number."""
    with ExitStack() as patches:
        for module in ("units", "redo", "regrama", "snr"):
            patches.enter_context(patch(f"lop.algos.{module}.candidates", _all_units))
        yield


def _all_units(mask: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(len(mask), device=mask.device), mask


class _HostDraws(TorchFunctionMode):
    """Random numbers are drawn on the CPU and copied: a GPU's generators draw other numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        generator = kwargs.get("generator")
        if not isinstance(generator, torch.Generator):
            return function(*args, **kwargs)
        on_device = [a for a in args if isinstance(a, Tensor) and a.device.type != "cpu"]
        device = kwargs.pop("device", None) if not on_device else None
        target = on_device[0].device if on_device else torch.device(device) if device is not None else None
        host = [a.cpu() if isinstance(a, Tensor) else a for a in args]
        drawn = function(*host, **kwargs)
        if on_device and getattr(function, "__name__", "").endswith("_"):
            return on_device[0].copy_(drawn)
        return drawn if target is None else drawn.to(target)


@contextmanager
def on_device(name: str) -> Iterator[torch.device]:
    """The device of that name (cpu, cuda, cuda:1 or `pretended`) with random numbers that are the CPU's."""
    if name == PRETENDED:
        with pretended_gpu() as device:
            yield device
    elif name == "cpu":
        yield torch.device(name)
    else:
        with host_generators(), _HostDraws():
            yield torch.device(name)


@contextmanager
def never_waiting(name: str) -> Iterator[None]:
    """Raises where a step makes the host wait for the device. On the CPU nothing ever waits."""
    if name == PRETENDED:
        with no_waiting():
            yield
    elif name == "cpu":
        yield
    else:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@dataclass
class Check:
    """One row of the table per precision: how many cases, the worst of them, and what failed."""

    what: str
    tolerance: float
    cases: int = 0
    worst: float = 0.0
    worst_case: str = ""
    failed: list[str] = field(default_factory=list)

    def add(self, case: str, measure: Callable[[], float]) -> None:
        """measure() -> the difference found; an exception is a failure, and says what it was."""
        self.cases += 1
        try:
            found = measure()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = (str(error).splitlines() or [""])[0][:90]
            self.failed.append(f"{case}: {type(error).__name__}: {reason} ({Path(where.filename).name}:{where.lineno})")
            return
        if found >= self.worst:
            self.worst, self.worst_case = found, case
        if not found <= self.tolerance:
            self.failed.append(f"{case}: {found:.2g}")
