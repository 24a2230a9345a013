"""Optimizers by name: this package's own, every `torch.optim` class, and `pytorch_optimizer:<Class>`."""

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lop.optimizers.adahessian import AdaHessian
from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.kfac import KFAC
from lop.optimizers.sam import ASAM, SAM
from lop.optimizers.sassha import MSassha, Sassha
from lop.optimizers.shampoo import Shampoo
from lop.optimizers.sophia import SophiaG, SophiaH
from lop.optimizers.torch_adapter import AdaptedOptimizer
from lop.utils.errors import UserError, lookup, near_matches

OWN: dict[str, type[ClosureOptimizer]] = {
    "adahessian": AdaHessian,
    "sophiah": SophiaH,
    "sophia": SophiaH,
    "sassha": Sassha,
    "msassha": MSassha,
    "sophiag": SophiaG,
    "kfac": KFAC,
    "shampoo": Shampoo,
    "sam": SAM,
    "asam": ASAM,
}
"""The optimizers written here. A new one is one file in this package and one line in this table."""

# SparseAdam wants sparse gradients, which no net here has.
_TORCH = {
    name.lower(): cls
    for name, cls in vars(torch.optim).items()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and name not in ("Optimizer", "SparseAdam")
}

OPTIMIZERS: dict[str, type[Optimizer]] = {**_TORCH, **OWN}
"""Name to class: a ClosureOptimizer, or the torch.optim class that is adapted to its protocol."""

_LIBRARY = "pytorch_optimizer"


def find_optimizer(name: str) -> type[Optimizer]:
    """The class behind a name. Raises UserError with the near matches for an unknown one."""
    library, colon, class_name = str(name).partition(":")
    if not colon:
        return lookup(OPTIMIZERS, name, "optimizer")
    if library != _LIBRARY:
        raise UserError(f"unknown optimizer library {library!r}: write {_LIBRARY}:<Class>")
    try:
        module = importlib.import_module(_LIBRARY)
    except ImportError:
        raise UserError(f"{name} needs the library {_LIBRARY}: pip install {_LIBRARY}") from None
    classes = {k: v for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, Optimizer)}
    return lookup(classes, class_name, f"{_LIBRARY} optimizer")


def optimizer_options(name: str) -> dict[str, inspect.Parameter]:
    """The hyperparameters of an optimizer, with annotations and defaults: what a config section may hold."""
    cls = find_optimizer(name)
    if issubclass(cls, ClosureOptimizer):
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    # a differentiable step needs parameters that are no leaves, a capturable one CUDA graphs: neither is for runs
    left_out = ("params", "differentiable", "capturable")
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in left_out]
    shared = inspect.signature(ClosureOptimizer).parameters
    options = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    return options | {key: shared[key] for key in ("max_grad_norm", "seed")}


def get_optimizer(name: str, model_or_params: nn.Module | Iterable, **hyperparameters: Any) -> ClosureOptimizer:
    """An optimizer by name, for a net (preferred: BatchNorm and K-FAC need it), its parameters or parameter groups.

    Raises UserError for an unknown name or hyperparameter (with the near matches) and for impossible values.
    """
    cls = find_optimizer(name)
    options = optimizer_options(name)
    for key in hyperparameters:
        if key not in options:
            raise UserError(f"{key} is not a hyperparameter of {name}: {near_matches(key, options)}")
    if issubclass(cls, ClosureOptimizer):
        return cls(model_or_params, **hyperparameters)
    return AdaptedOptimizer(model_or_params, optimizer_class=cls, **hyperparameters)


def list_optimizers() -> list[str]:
    """All names, sorted; `pytorch_optimizer:<Class>` comes on top where that library is installed."""
    return sorted(OPTIMIZERS)
