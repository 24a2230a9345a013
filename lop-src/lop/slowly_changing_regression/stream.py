"""Slowly-changing regression: a small net tracks a fixed random one whose inputs drift (Dohare et al. 2024)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lop.data.options import require_batch
from lop.data.stream import Batch, Task, TaskStream
from lop.nets.ltu import LTUNet
from lop.slowly_changing_regression.fast import online_learner
from lop.training.benchmark import benchmark
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.seeding import make_generator

EVALUATION_BATCH = 2000


@dataclass(frozen=True)
class RegressionTask(Task):
    """All examples of the time between two changes: x (n, inputs) of 0s and 1s, y (n, 1), in their order."""

    x: Tensor
    y: Tensor

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        if start == self.steps_per_epoch:  # split() makes one empty batch of nothing
            return
        rows = slice(start * self.batch_size, self.steps_per_epoch * self.batch_size)
        yield from zip(self.x[rows].split(self.batch_size), self.y[rows].split(self.batch_size), strict=True)

    def reference(self, size: int) -> Batch:
        return self.x[:size], self.y[:size]  # the examples of a task are independent: any are a random sample

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        if split == "train":
            yield from zip(self.x[:limit].split(EVALUATION_BATCH), self.y[:limit].split(EVALUATION_BATCH), strict=True)


@benchmark(
    "slowly_changing_regression",
    family="regression",
    configs="cfg",
    net={"name": "mlp", "hidden": [5]},
    learner=online_learner,
    plain="relu",
)
class SlowlyChangingRegression(TaskStream):
    """Task k: the `flip_every` examples between two changes of the slow bits.

    An example has `slow_bits` bits that stay for a whole task and `num_inputs - slow_bits` random ones. flip: "all"
    draws every slow bit anew for each task, as the published code does for its figure; "one" flips one of them at
    random, as the paper says. The target is an LTUNet of `target_units` units, fixed for the run; beta and
    half_bias are its own: with half_bias the errors are those of the published figures, without it they end higher.
    """

    loss = "mse"
    bin_steps = 20_000

    def __init__(
        self,
        seed: int,
        data_dir: str | None,
        device: torch.device | str,
        *,
        num_tasks: int = 100,
        flip_every: int = 10_000,
        flip: Literal["all", "one"] = "all",
        num_inputs: int = 20,
        slow_bits: int = 15,
        target_units: int = 100,
        beta: float = 0.7,
        half_bias: bool = True,
        batch_size: int = 1,
    ):
        require(COUNT, num_tasks=num_tasks, flip_every=flip_every, target_units=target_units, batch_size=batch_size)
        require_batch(batch_size, flip_every)
        if not 1 <= slow_bits <= num_inputs:
            raise UserError(f"must be 1..{num_inputs}, the number of inputs, got {slow_bits}", option="slow_bits")
        self.seed, self.num_tasks, self.flip_every = seed, num_tasks, flip_every
        self.flip, self.num_inputs, self.slow_bits = flip, num_inputs, slow_bits
        self.batch_size = batch_size
        self.input_shape, self.num_outputs = (num_inputs,), 1
        self.data_description = f"generated: {num_inputs} bits, {slow_bits} of them change every {flip_every} examples"
        self._device = torch.device(device)
        target = make_generator(seed, "target")
        self.target = LTUNet(num_inputs, target_units, target, beta, half_bias).to(self._device)

    def slow(self, k: int) -> Tensor:
        """The slow bits of task k, float (slow_bits,) on the CPU."""
        if self.flip == "all":
            return torch.randint(2, (self.slow_bits,), generator=make_generator(self.seed, "slow bits", k)).float()
        generator = make_generator(self.seed, "slow bits")
        first = torch.randint(2, (self.slow_bits,), generator=generator)
        flipped = torch.randint(self.slow_bits, (self.num_tasks,), generator=generator)[:k]
        return ((first + torch.bincount(flipped, minlength=self.slow_bits)) % 2).float()

    def task(self, k: int) -> RegressionTask:
        shape = (self.flip_every, self.num_inputs - self.slow_bits)
        fast = torch.randint(2, shape, generator=make_generator(self.seed, "fast bits", k)).float()
        x = torch.cat((self.slow(k).expand(self.flip_every, -1), fast), dim=1).to(self._device)
        return RegressionTask(
            index=k,
            active=None,
            epochs=1,
            steps_per_epoch=self.flip_every // self.batch_size,
            batch_size=self.batch_size,
            x=x,
            y=self.target(x),
        )
