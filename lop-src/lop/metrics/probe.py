"""What one call of the dashboard looks at; parts that several diagnostics need are computed once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from lop.metrics.evaluate import evaluate
from lop.metrics.ntk import eigenvalues, ntk
from lop.metrics.numerics import all_finite
from lop.metrics.outputs import example_losses, select_outputs
from lop.metrics.ranks import singular_values
from lop.metrics.reasons import Reason, UndefinedMetricError
from lop.nets.base import FeatureRecorder
from lop.utils.seeding import make_generator


@dataclass(frozen=True)
class Settings:
    """What all diagnostics of a dashboard share; see there."""

    reference_size: int = 64
    ntk_size: int = 32
    ntk: Literal["pseudo", "full"] = "pseudo"
    eval_examples: int | None = 10000
    seed: int = 0


class Probe:
    """A learner at one moment, and a task's reference batch. Used inside `probing`.

    x, y: the reference batch; few: its first `ntk_size` examples; features: the activations of each hidden
    layer on x; outputs: the net's outputs on x. initial: the initial parameters, in the order of
    `net.parameters()`, or None. earlier_outputs: the outputs on x before the task, or None. steps: sum
    and number of what diagnostics made of the task's single steps, by name.
    """

    def __init__(self, learner, task, settings: Settings, initial=None, earlier_outputs=None, steps=None):
        self.learner, self.task, self.settings = learner, task, settings
        self.net, self.loss, self.active = learner.net, learner.loss, task.active
        self.layers = learner.net.hidden_layers()
        self.initial, self.earlier_outputs, self._steps = initial, earlier_outputs, steps or {}
        self.x, self.y = task.reference(settings.reference_size)
        self.few = self.x[: settings.ntk_size], self.y[: settings.ntk_size]
        self._shared: dict[str, Any] = {}
        self.evaluation_seconds = 0.0

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers for one diagnostic: the same before and after a task, on the CPU."""
        return make_generator(self.settings.seed, "metrics", purpose, self.task.index)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, computed at the first call: for diagnostics that share work."""
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]

    def step_mean(self, name: str) -> Tensor:
        """The mean over the task's steps of what the diagnostic of this name makes of each. -> ().

        Raises UndefinedMetricError where there was none.
        """
        if name not in self._steps:
            raise UndefinedMetricError(Reason.NO_STEP)
        total, count = self._steps[name]
        return total / count

    @cached_property
    def _pass(self) -> tuple[Tensor, list[Tensor]]:
        recorder = FeatureRecorder(self.layers)
        try:
            with torch.no_grad(), recorder:
                return self.net(self.x), list(recorder.features)
        finally:
            recorder.close()

    @property
    def outputs(self) -> Tensor:
        return self._pass[0]

    @property
    def features(self) -> list[Tensor]:
        return self._pass[1]

    @cached_property
    def feature_singular_values(self) -> list[Tensor]:
        """Of each hidden layer's (batch x units) features, maps averaged over space; on the CPU."""
        return [singular_values(f.flatten(2).mean(2).cpu() if f.dim() > 2 else f.cpu()) for f in self.features]

    @cached_property
    def ntk_eigenvalues(self) -> Tensor:
        return eigenvalues(ntk(self.net, self.few[0], self.settings.ntk, self.active))

    @cached_property
    def parameters(self) -> list[Tensor]:
        """The parameters that are trained."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def mean_loss(self, outputs: Tensor) -> Tensor:
        """The loss of outputs on the reference batch. -> ()."""
        return example_losses(outputs, self.y, self.loss, self.active).mean()

    @cached_property
    def gradients(self) -> list[Tensor]:
        """Of the loss on the reference batch; zero for a parameter that the outputs do not use."""
        loss = self.mean_loss(self.net(self.x))
        return list(torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True))

    def evaluation(self, split: str) -> dict:
        """Loss and accuracy of the evaluation weights; training examples are capped at `eval_examples`."""
        limit = self.settings.eval_examples if split == "train" else None
        return self.once(f"evaluation/{split}", lambda: self._timed_evaluation(split, limit))

    def _timed_evaluation(self, split: str, limit: int | None) -> dict:
        start = time.perf_counter()
        result = evaluate(self.learner, self.task, split, limit)
        self.evaluation_seconds += time.perf_counter() - start
        return result

    @cached_property
    def what_is_not_finite(self) -> Reason:
        """Why a value may be NaN: the first of parameters, activations, outputs, gradients that holds a NaN or inf.

        Gradients are looked at where a diagnostic has asked for them.
        """
        parts: list[tuple[Reason, Callable[[], list[Tensor]]]] = [
            (Reason.NON_FINITE_PARAMETERS, lambda: list(self.net.parameters())),
            (Reason.NON_FINITE_ACTIVATIONS, lambda: self.features),
            (Reason.NON_FINITE_OUTPUTS, lambda: [select_outputs(self.outputs, self.active)]),
        ]
        if "gradients" in vars(self):
            parts.append((Reason.NON_FINITE_GRADIENTS, lambda: self.gradients))
        for reason, tensors in parts:
            found = tensors()
            if found and not all_finite(found):
                return reason
        return Reason.NOT_FINITE
