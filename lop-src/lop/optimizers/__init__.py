"""Optimizers behind one protocol: `loss = optimizer.step(closure)`."""

from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.registry import OPTIMIZERS, find_optimizer, get_optimizer, list_optimizers, optimizer_options

__all__ = [
    "OPTIMIZERS",
    "ClosureOptimizer",
    "find_optimizer",
    "get_optimizer",
    "list_optimizers",
    "optimizer_options",
]
