"""Plugins whose parts the contract tests run over: `pytest --plugin mine.py`."""

import sys
from pathlib import Path
from typing import Any

from lop.algos import INTERVENTIONS
from lop.data import DATASETS
from lop.metrics import METRICS
from lop.nets import NETS
from lop.optimizers import OPTIMIZERS
from lop.plan import BENCHMARKS
from lop.utils.registry import load_plugin

REGISTRIES = (OPTIMIZERS, INTERVENTIONS, METRICS, BENCHMARKS, DATASETS, NETS)

names: set[str] = set()
"""What the plugins registered."""

options: dict[str, dict[str, Any]] = {}
"""Of what they registered, by name: with these it acts within a few steps. A plugin's `CONTRACT_OPTIONS`."""


def load(plugin: str) -> None:
    """Import a plugin, a file or a module. Raises UserError where that cannot be done."""
    known = [set(registry) for registry in REGISTRIES]
    load_plugin(plugin)
    module = sys.modules[Path(plugin).stem if plugin.endswith(".py") else plugin]
    names.update(name for registry, old in zip(REGISTRIES, known, strict=True) for name in set(registry) - old)
    options.update(getattr(module, "CONTRACT_OPTIONS", {}))
