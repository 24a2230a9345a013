"""The protocol of every benchmark: a stream of tasks, each a pure function of (seed, index)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task(ABC):
    """One task.

    index: position in the stream, from 0.
    active: indices of the outputs in use (int64, on the device), or None for all; other logits are masked.
    epochs: passes over the task's training examples.
    steps_per_epoch: batches in one pass.
    batch_size: examples in a full batch.
    """

    index: int
    active: Tensor | None
    epochs: int
    steps_per_epoch: int
    batch_size: int

    @property
    def batch_steps(self) -> int:
        """What a batch counts in the tables' steps: 1, or the env steps of a rollout."""
        return 1

    @abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Any]]:
        """The training batches of one epoch from number `start` on, on the device.

        Pure in (seed, task, epoch): starting at k gives what skipping k batches gives. x is float, y int64
        class indices or, for regression, float targets (batch, outputs).
        """

    @abstractmethod
    def reference(self, size: int) -> Batch:
        """The first `size` examples of a fixed random order of the training set, not augmented."""

    @abstractmethod
    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        """Large batches of a split ("train", "test", "validation"), not augmented; at most `limit` examples.

        A split that the benchmark does not have yields nothing.
        """


class TaskStream(ABC):
    """A benchmark. Keyword-only, annotated constructor parameters are its options in a config."""

    num_tasks: int
    input_shape: tuple[int, ...]
    num_outputs: int
    loss: str = "cross_entropy"  # or "mse"
    bin_steps: int | None = None  # steps per bin of online performance; None: ten bins per task
    total_steps: int | None = None  # of the whole run, in the tables' steps; None: it follows from the tasks
    actions: str | None = None  # "continuous" or "discrete", of a policy that acts; None: examples are given
    data_description: str  # one line for people: which data, from where

    data_fingerprint: str | None = None  # of the loaded data; None: they are generated

    @property
    def fingerprint(self) -> str:
        """Tells the data from others: a checkpoint made from one data set does not go on with another."""
        return self.data_fingerprint or self.data_description

    @abstractmethod
    def task(self, k: int) -> Task:
        """Task k, 0 <= k < num_tasks; the same whatever was asked before."""

    def state_dict(self) -> dict[str, Any]:
        """All that changes while tasks are learned: nothing where the data do not depend on what was learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to do, on purpose)
        """Go on from `state_dict()`, bit-identically."""
