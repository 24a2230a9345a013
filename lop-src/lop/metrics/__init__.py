"""Diagnostics of plasticity. A new one is one function, registered with `@metric`, in a module imported here."""

from lop.metrics import curvature, gradients, ntk, outputs, ranks, trainability, units, weights  # noqa: F401  (registered)
from lop.metrics.dashboard import Dashboard
from lop.metrics.evaluate import evaluate
from lop.metrics.probing import probing
from lop.metrics.registry import CORE, METRICS, Metric
from lop.metrics.summary import format_summary

__all__ = ["CORE", "METRICS", "Dashboard", "Metric", "evaluate", "format_summary", "probing"]
