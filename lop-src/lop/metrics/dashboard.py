"""The dashboard: every diagnostic before and after every task."""

import math
import time
from collections.abc import Sequence
from inspect import Parameter
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from lop.metrics.chosen import Chosen, Extra, chosen
from lop.metrics.numerics import precise
from lop.metrics.probe import Probe, Settings
from lop.metrics.reasons import Limited, Reason, UndefinedMetricError, explained
from lop.metrics.registry import Metric, options_of
from lop.nets.probing import probing
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require, require_choice


class Dashboard:
    """Measures a learner before and after each task, on a reference batch held fixed for the task.

    learner: has `net` (lop.nets.Net), `optimizer`, `loss` ("cross_entropy" or "mse") and `predict(x)`, the
    outputs of the evaluation weights. Loss and accuracies are theirs; everything else is of the net in training.

    reference_size: examples in the reference batch. ntk_size: how many of these the NTK is computed on.
    ntk: "pseudo" (of the summed logits) or "full" (summed over the outputs). eval_examples: cap on the training
    examples for loss and train_acc, None for all; the test split is used whole. extras: further diagnostics, by name
    or as sections with their options, `{"name": "tau_dormant", "tau": 0.2}`; a core one is given options in the same
    way. seed: of the random probes.
    """

    def __init__(
        self,
        learner,
        *,
        reference_size: int = 64,
        ntk_size: int = 32,
        ntk: Literal["pseudo", "full"] = "pseudo",
        eval_examples: int | None = 10000,
        extras: Sequence[Extra] = (),
        seed: int = 0,
    ):
        require(COUNT, reference_size=reference_size, ntk_size=ntk_size, eval_examples=eval_examples)
        if ntk_size > reference_size:
            raise UserError(f"must be <= reference_size ({reference_size}), got {ntk_size}", option="ntk_size")
        require_choice(("pseudo", "full"), ntk=ntk)
        self.learner = learner
        self.settings = Settings(reference_size, ntk_size, ntk, eval_examples, seed)
        self.chosen = chosen(extras)
        for one in self.chosen:
            _check(one, learner.net)
        keep = any(one.metric.needs_initial for one in self.chosen)
        self.initial = [p.detach().clone() for p in learner.net.parameters()] if keep else None
        self._task_index: int | None = None
        self._earlier_outputs: Tensor | None = None
        self._of_steps = [one.metric for one in self.chosen if one.metric.per_step is not None]
        self._steps: dict[str, list[Any]] = {}  # sum and number of what they make of the task's steps

    def before(self, task) -> dict[str, Any]:
        """The values before a task's first step; keeps the outputs on its reference inputs for the churn.

        Every scalar by name (NaN where it could not be computed), and
        "layers": {name: one value per hidden layer, input to output}, "layer_names": of these layers,
        "spectra": {name: numbers}, "reasons": {name: the Reason why it is NaN, or only a bound},
        "explanations": {name: the same in words}, "seconds": time all this took, "evaluation_seconds": the part of
        it that loss and accuracies took.
        """
        return self._measure(task, after=False)

    def after(self, task) -> dict[str, Any]:
        """The values after a task's last step, as `before`, with those that compare the two (ntk_churn)."""
        return self._measure(task, after=True)

    def after_step(self, x: Tensor, y: Any, loss: Tensor) -> None:
        """After an update on the batch (x, y), whose mean loss was `loss` before it: for what is made of steps."""
        for one in self._of_steps:
            assert one.per_step is not None
            value = one.per_step(self.learner, x, y, loss)
            pair = self._steps.setdefault(one.name, [torch.zeros_like(value), 0])
            pair[0], pair[1] = pair[0] + value, pair[1] + 1

    def state_dict(self) -> dict[str, Any]:
        """Loads with `weights_only=True`."""
        kept = {"task": self._task_index, "earlier_outputs": self._earlier_outputs, "initial": self.initial}
        return kept | {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """So that a run resumed within a task gives the same churn, and the same distances from the start."""
        self._task_index, self._earlier_outputs = state["task"], state["earlier_outputs"]
        self._steps = {name: list(pair) for name, pair in state["steps"].items()}
        if self.initial is not None and state["initial"] is not None:
            self.initial = state["initial"]

    def _measure(self, task, after: bool) -> dict[str, Any]:
        start = time.perf_counter()
        with probing(self.learner.net, self.learner.optimizer), torch.enable_grad():
            earlier = self._earlier_outputs if after and self._task_index == task.index else None
            steps = self._steps if after and self._task_index == task.index else None
            probe = Probe(self.learner, task, self.settings, self.initial, earlier, steps)
            measured = [one for one in self.chosen if after or not one.metric.after_only]
            values, reasons, details = {}, {}, {}
            for one in measured:
                name = one.metric.name
                value, reason, details[name] = self._value(one, probe)
                if value is not None:
                    values[name] = value
                if reason is not None:
                    reasons[name] = reason
            if not after:
                self._task_index, self._earlier_outputs, self._steps = task.index, probe.outputs.clone(), {}
            result = _as_result([one.metric for one in measured], _read_back(values), reasons, probe)
        result["explanations"] = {name: explained(reason, details[name]) for name, reason in reasons.items()}
        result["evaluation_seconds"] = probe.evaluation_seconds
        result["seconds"] = time.perf_counter() - start
        return result

    def _value(self, one: Chosen, probe: Probe) -> tuple[Any, Reason | None, str]:
        """(value or None, why it is missing or only a bound, detail)."""
        try:
            if one.metric.per_layer and not probe.layers:
                raise UndefinedMetricError(Reason.NO_HIDDEN_LAYER)
            value = one.metric.compute(probe, **one.options)
        except UndefinedMetricError as error:
            return None, error.reason, error.detail
        except RuntimeError as error:  # out of memory, no convergence: a run must not die of being measured
            return None, Reason.FAILED, str(error).splitlines()[0]
        return (value.value, value.reason, value.detail) if isinstance(value, Limited) else (value, None, "")


def dashboard_options() -> dict[str, Parameter]:
    """What the config's `metrics` may hold."""
    return options_of(Dashboard.__init__)


def _check(one: Chosen, net: Any) -> None:
    """Raises UserError where a diagnostic's options do not fit the net."""
    if one.metric.check is not None:
        try:
            one.metric.check(net, **one.options)
        except UserError as error:
            raise error.within(one.place) from None


def _as_result(
    metrics: list[Metric], numbers: dict[str, list[float]], reasons: dict[str, Reason], probe: Probe
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    layers, spectra = {}, {}
    for metric in metrics:
        values = numbers.get(metric.name)
        if values is None:
            values = [] if metric.spectrum else [math.nan] * (1 + metric.per_layer * len(probe.layers))
        elif not all(map(math.isfinite, values)):
            values = [v if math.isfinite(v) else math.nan for v in values]
            if metric.name not in reasons or probe.what_is_not_finite.diverged:
                reasons[metric.name] = probe.what_is_not_finite
        if metric.spectrum:
            spectra[metric.name] = values
            continue
        result[metric.name] = values[0]
        if metric.per_layer:
            layers[metric.name] = values[1:]
    names = [layer.name for layer in probe.layers]
    return {**result, "layers": layers, "layer_names": names, "spectra": spectra, "reasons": reasons}


def _read_back(values: dict[str, Any]) -> dict[str, list[float]]:
    """Each diagnostic's numbers, a scalar before its layers; what is on an accelerator is read at once."""
    flat = {name: _flatten(value) for name, value in values.items()}
    read: dict[str, list[float]] = {}
    for device in {tensor.device for tensor in flat.values()}:
        here = {name: tensor for name, tensor in flat.items() if tensor.device == device}
        numbers = iter(torch.cat(list(here.values())).tolist())
        read |= {name: list(islice(numbers, tensor.numel())) for name, tensor in here.items()}
    return read


def _flatten(value) -> Tensor:
    if isinstance(value, tuple):
        return torch.cat([precise(part).reshape(-1) for part in value])
    return precise(value).reshape(-1) if isinstance(value, Tensor) else torch.tensor([value], dtype=torch.float64)
