"""The dashboard: every diagnostic before and after every task."""

import math
import time
from itertools import islice
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from lop.metrics.numerics import precise
from lop.metrics.probe import Probe
from lop.metrics.probing import probing
from lop.metrics.registry import CORE, METRICS, Metric, UndefinedMetricError
from lop.utils.errors import UserError, lookup


class Dashboard:
    """Measures a learner before and after each task, on a reference batch held fixed for the task.

    learner: has `net` (lop.nets.Net), `optimizer`, `loss` ("cross_entropy" or "mse") and `predict(x)`, the
    outputs of the evaluation weights. Loss and accuracies are theirs; everything else is of the net in training.

    reference_size: examples in the reference batch. ntk_size: how many of these the NTK is computed on.
    ntk: "pseudo" (of the summed logits) or "full" (summed over the outputs). eval_examples: cap on the training
    examples for loss and train_acc, None for all; the test split is used whole. extras: further names from
    `METRICS`. dormant_threshold: a unit is dormant if active on a smaller share of the batch. tau: of tau_dormant.
    hessian_layer: name of the hidden layer whose incoming parameters are the block of hessian_eff_rank; None:
    the head. trainability_steps, trainability_lr: of the probe task. sam_rho: radius of the sharpness.
    seed: of the random probes.
    """

    def __init__(
        self,
        learner,
        *,
        reference_size: int = 64,
        ntk_size: int = 32,
        ntk: Literal["pseudo", "full"] = "pseudo",
        eval_examples: int | None = 10000,
        extras: list[str] = (),
        dormant_threshold: float = 0.01,
        tau: float = 0.1,
        hessian_layer: str | None = None,
        trainability_steps: int = 50,
        trainability_lr: float = 0.01,
        sam_rho: float = 0.05,
        seed: int = 0,
    ):
        _check_at_least(1, reference_size=reference_size, ntk_size=ntk_size, trainability_steps=trainability_steps)
        _check_at_least(0, dormant_threshold=dormant_threshold, tau=tau)
        _check_positive(trainability_lr=trainability_lr, sam_rho=sam_rho)
        if ntk_size > reference_size:
            raise UserError(f"ntk_size must be <= reference_size ({reference_size}), got {ntk_size}")
        if eval_examples is not None:
            _check_at_least(1, eval_examples=eval_examples)
        if ntk not in ("pseudo", "full"):
            raise UserError(f"ntk must be 'pseudo' or 'full', got {ntk!r}")
        names = [layer.name for layer in learner.net.hidden_layers()]
        if hessian_layer is not None and hessian_layer not in names:
            raise UserError(f"hessian_layer must be one of {', '.join(names)}, got {hessian_layer!r}")
        self.learner = learner
        self.metrics = _chosen(extras)
        self.settings = SimpleNamespace(
            reference_size=reference_size,
            ntk_size=ntk_size,
            ntk=ntk,
            eval_examples=eval_examples,
            dormant_threshold=dormant_threshold,
            tau=tau,
            hessian_layer=hessian_layer,
            trainability_steps=trainability_steps,
            trainability_lr=trainability_lr,
            sam_rho=sam_rho,
            seed=seed,
        )
        keep = any(m.name == "distance_from_init" for m in self.metrics)
        self.initial = [p.detach().clone() for p in learner.net.parameters()] if keep else None
        self._task_index: int | None = None
        self._earlier_outputs: Tensor | None = None

    def before(self, task) -> dict[str, Any]:
        """The values before a task's first step; keeps the outputs on its reference inputs for the churn.

        Every scalar by name (NaN where it could not be computed), and
        "layers": {name: one value per hidden layer, input to output}, "spectra": {name: numbers},
        "reasons": {name: why it is NaN}, "seconds": time all this took, "evaluation_seconds": the part of it that
        loss and accuracies took.
        """
        return self._measure(task, after=False)

    def after(self, task) -> dict[str, Any]:
        """The values after a task's last step, as `before`, with those that compare the two (ntk_churn)."""
        return self._measure(task, after=True)

    def state_dict(self) -> dict[str, Any]:
        """Loads with `weights_only=True`."""
        return {"task": self._task_index, "earlier_outputs": self._earlier_outputs, "initial": self.initial}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """So that a run resumed within a task gives the same churn, and the same distances from the start."""
        self._task_index, self._earlier_outputs = state["task"], state["earlier_outputs"]
        if self.initial is not None and state["initial"] is not None:
            self.initial = state["initial"]

    def _measure(self, task, after: bool) -> dict[str, Any]:
        start = time.perf_counter()
        with probing(self.learner.net, self.learner.optimizer), torch.enable_grad():
            earlier = self._earlier_outputs if after and self._task_index == task.index else None
            probe = Probe(self.learner, task, self.settings, self.initial, earlier)
            values, reasons = {}, {}
            for metric in self.metrics:
                if metric.after_only and not after:
                    continue
                try:
                    values[metric.name] = metric.compute(probe)
                except UndefinedMetricError as reason:
                    reasons[metric.name] = str(reason)
                except RuntimeError as error:  # out of memory, no convergence: a run must not die of being measured
                    reasons[metric.name] = f"failed: {str(error).splitlines()[0]}"
            if not after:
                self._task_index, self._earlier_outputs = task.index, probe.outputs.clone()
            numbers = _read_back(values)
            result = self._as_result(numbers, reasons, probe, after)
        result["evaluation_seconds"] = probe.evaluation_seconds
        result["seconds"] = time.perf_counter() - start
        return result

    def _as_result(self, numbers: dict[str, list[float]], reasons: dict[str, str], probe: Probe, after: bool) -> dict:
        result: dict[str, Any] = {}
        layers, spectra = {}, {}
        for metric in self.metrics:
            if metric.after_only and not after:
                continue
            values = numbers.get(metric.name)
            if values is None:
                values = [] if metric.spectrum else [math.nan] * (1 + metric.per_layer * len(probe.layers))
            elif not all(map(math.isfinite, values)):
                values = [v if math.isfinite(v) else math.nan for v in values]
                reasons[metric.name] = probe.what_is_not_finite
            if metric.spectrum:
                spectra[metric.name] = values
                continue
            result[metric.name] = values[0]
            if metric.per_layer:
                layers[metric.name] = values[1:]
        return {**result, "layers": layers, "spectra": spectra, "reasons": reasons}


def _chosen(extras: list[str]) -> list[Metric]:
    names = list(CORE)
    for name in extras:
        try:
            names += [name, *lookup(METRICS, name, "diagnostic").companions]
        except UserError as error:
            raise UserError(f"extras: {error}") from None
    return [METRICS[name] for name in dict.fromkeys(names)]


def _read_back(values: dict[str, Any]) -> dict[str, list[float]]:
    """Each diagnostic's numbers, a scalar before its layers; what is on an accelerator is read at once."""
    flat = {name: _flatten(value) for name, value in values.items()}
    read = {}
    for device in {tensor.device for tensor in flat.values()}:
        here = {name: tensor for name, tensor in flat.items() if tensor.device == device}
        numbers = iter(torch.cat(list(here.values())).tolist())
        read |= {name: list(islice(numbers, tensor.numel())) for name, tensor in here.items()}
    return read


def _flatten(value) -> Tensor:
    if isinstance(value, tuple):
        return torch.cat([precise(part).reshape(-1) for part in value])
    return precise(value).reshape(-1) if isinstance(value, Tensor) else torch.tensor([value], dtype=torch.float64)


def _check_at_least(low: float, **options: float) -> None:
    for name, value in options.items():
        if value < low:
            raise UserError(f"{name} must be >= {low}, got {value}")


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        if not value > 0:
            raise UserError(f"{name} must be > 0, got {value}")
