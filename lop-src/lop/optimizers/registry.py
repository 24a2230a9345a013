"""Optimizers by name: this package's own register themselves, beside every class of `torch.optim`."""

import inspect

import torch
from torch.optim import Optimizer

from lop.utils.registry import Registry

OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer")
"""Name to class: a ClosureOptimizer, or the torch.optim class that is adapted to its protocol."""

optimizer = OPTIMIZERS.register
"""Decorator: `@optimizer("name")` on a ClosureOptimizer makes it known by that name."""

for _name, _class in vars(torch.optim).items():
    # SparseAdam wants sparse gradients, which no net here has; torch's Muon takes matrices only, ours whole nets
    if inspect.isclass(_class) and issubclass(_class, Optimizer) and _name not in ("Optimizer", "SparseAdam", "Muon"):
        OPTIMIZERS.add(_name.lower(), _class)


def list_optimizers() -> list[str]:
    """All names, sorted; `pytorch_optimizer:<Class>` comes on top where that library is installed."""
    return sorted(OPTIMIZERS)
