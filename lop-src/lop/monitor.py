"""The diagnostics in anybody's loop: before a stretch of training, after it, and a table of all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lop.data.stream import Batch, Task
from lop.metrics import Dashboard
from lop.metrics.chosen import Extra
from lop.nets import Net
from lop.nets.describe import describe
from lop.runs.records import phase_rows, scalar_columns
from lop.training.learner import OWN, Learner
from lop.utils.errors import UserError, shown
from lop.viz import dashboard_grid
from lop.viz.style import Figure

LOSSES: dict[Any, str] = {F.cross_entropy: "cross_entropy", F.mse_loss: "mse"}
LOSS_MODULES: dict[type, str] = {nn.CrossEntropyLoss: "cross_entropy", nn.MSELoss: "mse"}
TIMED_STEPS = 5
Stretch = TypeVar("Stretch")


@dataclass(frozen=True)
class GivenTask(Task):
    """A task of which only examples are known: train and, where there are some, test, on the model's device."""

    train: Batch
    test: Batch | None

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter([self.train][start:])

    def reference(self, size: int) -> Batch:
        x, y = self.train
        return x[:size], y[:size]

    def evaluation(self, split: str, limit: int | None = None) -> Iterator[Batch]:
        examples = {"train": self.train, "test": self.test}.get(split)
        if examples is not None:
            x, y = examples
            yield x[:limit], y[:limit]


class Monitor:
    """Measures a model before and after each task, epoch, or whatever a stretch of training is.

    model: any `nn.Module` that takes one batch and returns outputs (batch, outputs); hidden layers are found by
    `lop.describe` at the first call of `before`, unless it is described already. Or a `lop.Learner`, whose loss is then
    the loss. loss: "cross_entropy", "mse", or torch's function or module for one of them. extras: diagnostics beyond
    the eleven, by name or as sections. test: held-out examples (x, y), for test_acc. options: the other options of
    `lop.Dashboard` (reference_size, ntk_size...).

    Whatever is measured leaves no trace in the model: modes, buffers, gradients, hooks, random numbers are as before.
    `table` has a row per stretch and columns `eff_rank_before`, `eff_rank_after`, ...; `layers` a row per hidden layer.
    Raises UserError for what cannot be measured.
    """

    def __init__(
        self,
        model: nn.Module | Learner,
        loss: Any = "cross_entropy",
        *,
        extras: Sequence[Extra] = (),
        test: Batch | None = None,
        **options: Any,
    ):
        self.model, self.test = model, test
        self.loss = _learners_loss(model) if isinstance(model, Learner) else _loss_name(loss)
        self._extras, self._options = extras, options
        self._dashboard: Dashboard | None = None
        self._before: dict[str, Any] | None = None
        self._task: GivenTask | None = None
        self._rows: list[dict[str, Any]] = []
        self._layers: list[dict[str, Any]] = []
        self._seconds: list[float] = []
        if isinstance(model, Net | Learner):
            self._watch(model)

    def _watch(self, own: Net | Learner) -> Dashboard:
        watched = own if isinstance(own, Learner) else _Watched(own, self.loss)
        self._dashboard = Dashboard(watched, extras=self._extras, **self._options)
        return self._dashboard

    @property
    def net(self) -> Net:
        """The described model. Raises UserError before the first call of `before`."""
        if self._dashboard is None:
            raise UserError("monitor: call before(x, y) first: the model's layers are found on its first examples")
        return self._dashboard.learner.net

    @torch.no_grad()
    def before(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Call it before a stretch of training. x, y: examples of what is going to be learned, at least 64.

        Returns the values by name (see `lop.Dashboard.before`).
        """
        if len(x) != len(y) or not len(x):
            raise UserError(f"monitor: expected as many targets as inputs, and one at least, got {len(x)} and {len(y)}")
        dashboard = self._dashboard
        if dashboard is None:
            assert isinstance(self.model, nn.Module)  # as a learner's net is described
            dashboard = self._watch(describe(self.model, x[:2]))
        self._task = GivenTask(len(self._rows), None, 1, 1, len(x), (x, y), self.test)
        self._before = dashboard.before(self._task)
        return self._before

    @torch.no_grad()
    def after(self, x: Tensor | None = None, y: Tensor | None = None) -> dict[str, Any]:
        """Call it after the stretch. The examples are those given to `before`; giving others is refused, since outputs
        on other inputs say nothing about how far they have moved.
        """
        if self._before is None or self._task is None or self._dashboard is None:
            raise UserError("monitor: after() without before(x, y): nothing is known of how it was")
        for given, kept, name in ((x, self._task.train[0], "x"), (y, self._task.train[1], "y")):
            if given is not None and given is not kept and not torch.equal(given, kept):
                raise UserError(f"monitor: after() got another {name} than before(): give the same examples, or none")
        values = self._dashboard.after(self._task)
        row: dict[str, Any] = {"task": self._task.index}
        for phase, measured in (("before", self._before), ("after", values)):
            row |= scalar_columns(measured, phase)
            self._layers += phase_rows(self._task.index, phase, measured)["layers"]
            self._seconds.append(measured["seconds"])
        self._rows.append(row)
        self._before = None
        return values

    def each(self, stretches: Iterable[Stretch], x: Tensor, y: Tensor) -> Iterator[Stretch]:
        """The stretches as they are, each measured before and after: `for epoch in monitor.each(range(9), x, y):`.

        One that the loop breaks off is not measured after.
        """
        for stretch in stretches:
            self.before(x, y)
            yield stretch
            self.after()

    @property
    def table(self) -> pd.DataFrame:
        """A row per finished stretch: task (its number), every value before and after. Made for `lop.viz`."""
        return pd.DataFrame(self._rows).assign(label="model")

    @property
    def layers(self) -> pd.DataFrame:
        """A row per stretch, phase and hidden layer."""
        return pd.DataFrame(self._layers).assign(label="model")

    def plot(self) -> Figure:
        """All diagnostics over the stretches so far."""
        if not self._rows:
            raise UserError("monitor: nothing to plot yet: call before(x, y) and after()")
        return dashboard_grid(self.table)

    def cost(self, step: Callable[[], Any]) -> float:
        """What one measurement costs, in training steps; printed, too. step: makes one (it is called six times)."""
        if not self._seconds:
            raise UserError("monitor: nothing has been measured yet: call before(x, y) and after()")
        step()
        taken = []
        for _ in range(TIMED_STEPS):
            start = time.perf_counter()
            step()
            taken.append(time.perf_counter() - start)
        steps = statistics.median(self._seconds) / statistics.median(taken)
        print(f"one measurement takes {statistics.median(self._seconds):.3f} s, as long as {steps:.1f} training steps")
        return steps


class _Watched:
    """What the dashboard needs to know of a learner."""

    optimizer = None

    def __init__(self, net: Net, loss: str):
        self.net, self.loss = net, loss

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)


def _learners_loss(learner: Learner) -> str:
    if learner.loss == OWN:
        raise UserError(
            "monitor: a learner's own loss function has no value per example: give Monitor(learner.net, loss) the loss "
            "to measure by, cross_entropy or mse"
        )
    return learner.loss


def _loss_name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else LOSSES.get(loss) or LOSS_MODULES.get(type(loss))
    if name not in ("cross_entropy", "mse"):
        raise UserError(
            f"monitor: loss must be cross_entropy or mse (a name, torch's function or module), got {shown(loss)}"
        )
    return name
