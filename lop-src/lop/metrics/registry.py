"""The registry of diagnostics: what each is called, how it is read, how it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from typing import Any, get_type_hints

from lop.utils.registry import Registry

# The dashboard's own values, in the order of the summary; every other registered name is an extra.
CORE = (
    "loss",
    "train_acc",
    "test_acc",
    "avg_weight_mag",
    "ntk_churn",
    "ntk_eff_rank",
    "ntk_cond",
    "eff_rank",
    "stable_rank",
    "approx_rank",
    "dormant_proportion",
)


@dataclass(frozen=True)
class Metric:
    """One diagnostic.

    range: smallest and largest possible value, None where there is no bound. higher_is_better: for plasticity;
    None where neither end is good. per_layer: has a list with one value per hidden layer beside the scalar.
    spectrum: is a list of numbers, kept under "spectra", and has no scalar. integer: counts something.
    after_only: compares the end of a task with its beginning. needs_initial: compares with the initial parameters,
    which are kept for it. companions: names that are computed along with it.
    compute: Probe -> 0-d tensor; (0-d tensor, tensor of layers) if per_layer; 1-d tensor if a spectrum; a `Limited`
    of these where the value is only a bound. Raises UndefinedMetricError. Its keyword-only, annotated parameters are
    the diagnostic's own options, given beside its name.
    per_step: (learner, x, y, loss) -> 0-d tensor, called after every update with its batch and the batch's mean loss
    before it; `compute` finds the mean over the task's steps as `probe.step_mean(name)`.
    check: called with (net, **options) when a dashboard is made that measures it; raises UserError.
    """

    name: str
    label: str
    range: tuple[float | None, float | None]
    higher_is_better: bool | None
    description: str
    compute: Callable[..., Any]
    per_layer: bool = False
    integer: bool = False
    spectrum: bool = False
    after_only: bool = False
    needs_initial: bool = False
    companions: tuple[str, ...] = ()
    per_step: Callable[..., Any] | None = None
    check: Callable[..., None] | None = None

    @property
    def source(self) -> Callable[..., Any]:
        """What was decorated: where the registry says the name is from."""
        return self.compute

    @property
    def core(self) -> bool:
        return self.name in CORE

    @cached_property
    def options(self) -> dict[str, Parameter]:
        """Its options by name."""
        return options_of(self.compute)


METRICS: Registry[Metric] = Registry("diagnostic")


def metric(name: str, label: str, range: tuple, higher_is_better: bool | None, description: str, **kind):
    """Decorator: registers the function that computes `name` from a Probe. kind: further fields of a `Metric`."""

    def register(compute):
        METRICS.add(name, Metric(name, label, range, higher_is_better, description, compute, **kind))
        return compute

    return register


def options_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The keyword-only parameters of a function, annotations resolved."""
    hints = get_type_hints(function, include_extras=True)
    parameters = signature(function).parameters.values()
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in parameters if p.kind is p.KEYWORD_ONLY}
