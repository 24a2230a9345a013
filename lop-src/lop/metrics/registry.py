"""The registry of diagnostics: what each is called, how it is read, how it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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


class UndefinedMetricError(Exception):
    """A value that does not exist here (no test split, a kernel that is zero); the message is the reason."""


@dataclass(frozen=True)
class Metric:
    """One diagnostic.

    range: smallest and largest possible value, None where there is no bound. higher_is_better: for plasticity;
    None where neither end is good. per_layer: has a list with one value per hidden layer beside the scalar.
    spectrum: is a list of numbers, kept under "spectra", and has no scalar. integer: counts something.
    after_only: compares the end of a task with its beginning. companions: names that are computed along with it.
    compute: Probe -> 0-d tensor; (0-d tensor, tensor of layers) if per_layer; 1-d tensor if a spectrum.
    """

    name: str
    label: str
    range: tuple[float | None, float | None]
    higher_is_better: bool | None
    description: str
    compute: Callable[[Any], Any]
    per_layer: bool = False
    integer: bool = False
    spectrum: bool = False
    after_only: bool = False
    companions: tuple[str, ...] = ()

    @property
    def source(self) -> Callable[[Any], Any]:
        """What was decorated: where the registry says the name is from."""
        return self.compute

    @property
    def core(self) -> bool:
        return self.name in CORE


METRICS: Registry[Metric] = Registry("diagnostic")


def metric(name: str, label: str, range: tuple, higher_is_better: bool | None, description: str, **kind):
    """Decorator: registers the function that computes `name` from a Probe."""

    def register(compute):
        METRICS.add(name, Metric(name, label, range, higher_is_better, description, compute, **kind))
        return compute

    return register
