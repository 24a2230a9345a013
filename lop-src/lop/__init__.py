"""Loss of plasticity: continual training with second-order optimizers, interventions and diagnostics.

What users call, imported when it is first asked for:

    import lop

    config = lop.make_config(benchmark="permuted_digits", optimizer="sassha", algos=["l2_init"])
    result = lop.run(config)
    results = lop.run_population(lop.members(config, seeds="0-4"))  # as one computation
    lop.viz.online_accuracy(lop.load("results").tasks)

    @lop.optimizer("mine")          # and lop.intervention, lop.net, lop.metric, lop.benchmark, lop.dataset
    class Mine(lop.ClosureOptimizer): ...
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_DOOR = {
    "make_config": "lop.plan",
    "members": "lop.plan",
    "run": "lop.runner",
    "run_population": "lop.runner",
    "load": "lop.runs",
    "analyze": "lop.analysis",
    "optimizer": "lop.optimizers",
    "ClosureOptimizer": "lop.optimizers",
    "get_optimizer": "lop.optimizers",
    "list_optimizers": "lop.optimizers",
    "intervention": "lop.algos",
    "Intervention": "lop.algos",
    "net": "lop.nets",
    "Net": "lop.nets",
    "HiddenLayer": "lop.nets",
    "describe": "lop.nets.describe",
    "metric": "lop.metrics",
    "Dashboard": "lop.metrics",
    "benchmark": "lop.training.benchmark",
    "dataset": "lop.data",
    "RemoteFile": "lop.data",
    "Task": "lop.data.stream",
    "TaskStream": "lop.data.stream",
    "Learner": "lop.training.learner",
    "make_learner": "lop.training.made",
    "Monitor": "lop.monitor",
    "UserError": "lop.utils.errors",
}

__all__ = [*_DOOR, "viz"]


def __getattr__(name: str) -> Any:
    if name == "viz":
        return importlib.import_module(f"{__name__}.{name}")
    if name in _DOOR:
        return getattr(importlib.import_module(_DOOR[name]), name)
    raise AttributeError(f"module 'lop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
