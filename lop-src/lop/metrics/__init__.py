"""Diagnostics of plasticity. A new one is one function with `@metric`, in a module of this package or outside it."""

from lop.metrics.chosen import checked_extras
from lop.metrics.dashboard import Dashboard, dashboard_options
from lop.metrics.evaluate import evaluate
from lop.metrics.reasons import Limited, Reason, UndefinedMetricError
from lop.metrics.registry import CORE, METRICS, Metric, metric
from lop.metrics.summary import format_summary
from lop.nets.probing import probing
from lop.utils.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "CORE",
    "METRICS",
    "Dashboard",
    "Limited",
    "Metric",
    "Reason",
    "UndefinedMetricError",
    "checked_extras",
    "dashboard_options",
    "evaluate",
    "format_summary",
    "metric",
    "probing",
]
