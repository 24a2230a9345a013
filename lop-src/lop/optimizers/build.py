"""From a name to an optimizer: this package's own, every `torch.optim` class, and `pytorch_optimizer:<Class>`."""

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lop.optimizers.base import ClosureOptimizer
from lop.optimizers.registry import OPTIMIZERS
from lop.optimizers.torch_adapter import AdaptedOptimizer
from lop.utils.errors import UserError, lookup, near_matches

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
        return _own_options(cls)
    # a differentiable step needs parameters that are no leaves, a capturable one CUDA graphs: neither is for runs
    left_out = ("params", "differentiable", "capturable")
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in left_out]
    # a config holds no dtypes: such an option of another library keeps its default
    parameters = [p for p in parameters if not isinstance(p.default, torch.dtype)]
    options = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    return options | _own_options(ClosureOptimizer)


def _own_options(cls: type[ClosureOptimizer]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls).parameters.values()  # with those that base classes write
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


def get_optimizer(name: str, model_or_params: nn.Module | Iterable, **hyperparameters: Any) -> ClosureOptimizer:
    """An optimizer by name, for a net (preferred: BatchNorm and K-FAC need it), its parameters or parameter groups.

    Raises UserError for an unknown name or hyperparameter (with the near matches) and for impossible values.
    """
    cls = find_optimizer(name)
    options = optimizer_options(name)
    for key in hyperparameters:
        if key not in options:
            raise UserError(f"is not a hyperparameter of {name}: {near_matches(key, options)}", option=key)
    if issubclass(cls, ClosureOptimizer):
        return cls(model_or_params, **hyperparameters)
    shared = {key: hyperparameters.pop(key) for key in _own_options(ClosureOptimizer) if key in hyperparameters}
    return AdaptedOptimizer(model_or_params, optimizer_class=cls, hyperparameters=hyperparameters, **shared)


def get_base(
    name: str,
    model_or_params: nn.Module | Iterable,
    options: dict[str, Any] | None,
    *,
    lr: float,
    weight_decay: float,
    **shared: Any,
) -> ClosureOptimizer:
    """The optimizer inside a wrapper. options: its hyperparameters; None: momentum 0.9 for sgd, else its defaults.

    lr, shared: the wrapper's options that are handed on; weight_decay is, where it is not 0.
    """
    if options is None:
        options = {"momentum": 0.9} if name == "sgd" else {}
    if weight_decay:  # some bases have none
        shared["weight_decay"] = weight_decay
    return get_optimizer(name, model_or_params, **({"lr": lr} | shared | options))
