"""Optimizers behind one protocol: `loss = optimizer.step(closure)`. One file each, registered with `@optimizer`."""

from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.build import find_optimizer, get_optimizer, optimizer_options
from lop.optimizers.registry import OPTIMIZERS, list_optimizers, optimizer
from lop.utils.registry import import_modules

import_modules(__name__, __path__)

__all__ = [
    "OPTIMIZERS",
    "ClosureOptimizer",
    "find_optimizer",
    "get_optimizer",
    "list_optimizers",
    "optimizer",
    "optimizer_options",
]
