"""Nets by name: this package's own, torchvision's (`torchvision:vgg11_bn`), and any module's (`mine:Net`)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from lop.nets.base import NETS, Net
from lop.nets.describe import describe
from lop.utils.errors import UserError, lookup, near_matches

_LIBRARY = "torchvision"


def find_net(name: str) -> Callable[..., Net]:
    """What builds a net: called with (input_shape, num_outputs, **options), its keyword-only parameters.

    `module:Class` names any `nn.Module` that is built as `Class(input_shape, num_outputs, **options)` and takes one
    batch; the module is imported, so that a plugin's file name will do. Raises UserError for an unknown name.
    """
    library, colon, wanted = str(name).partition(":")
    if not colon:
        return lookup(NETS, name, "net (net.name)")
    if library == _LIBRARY:
        return _torchvision(wanted)
    try:
        module = importlib.import_module(library)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"net.name: {name}: {reason}; name a plugin in run.plugins, or an installed module") from None
    found = getattr(module, wanted, None)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        classes = [k for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, nn.Module)]
        raise UserError(f"net.name: {library} has no net {wanted!r}; {near_matches(wanted, classes)}")
    return found if issubclass(found, Net) else _describing(found)


def _describing(cls: type[nn.Module]) -> Callable[..., Net]:
    """Builds the class and describes what it has built."""

    def build(input_shape: tuple[int, ...], num_outputs: int, **options: Any) -> Net:
        return described(partial(cls, input_shape, num_outputs, **options), input_shape)

    parameters = inspect.signature(cls).parameters.values()
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    build.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # of any function
    build.__annotations__ = {p.name: p.annotation for p in options if p.annotation is not p.empty}
    return build


def described(make: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> Net:
    """The net that `make` returns, described on two examples. Global random numbers are neither used nor changed.

    Its dropout and stochastic depth are off: they draw from the global numbers, so that no run could be repeated.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what distributions are found must not depend on who drew before
        model = make()
        module: Any
        for module in model.modules():
            if isinstance(module, _DropoutNd) or type(module).__name__ == "StochasticDepth":
                module.p = 0.0
        return describe(model, torch.randn(2, *input_shape))


def _torchvision(wanted: str) -> Callable[..., Net]:
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError:
        raise UserError(f"net.name: {_LIBRARY}:{wanted} needs {_LIBRARY}: pip install {_LIBRARY}") from None
    known = {name: models.get_model_builder(name) for name in models.list_models(module=models)}
    builder = lookup(known, wanted, f"{_LIBRARY} net")

    def build(input_shape: tuple[int, ...], num_outputs: int, *, stem: Literal["own", "small"] = "own") -> Net:
        """stem: "small" makes the first convolution 3 x 3 with stride 1 and leaves out a max-pooling right after it."""

        def make() -> nn.Module:
            sized = {"image_size": input_shape[-1]} if wanted.startswith("vit") else {}
            model = builder(weights=None, num_classes=num_outputs, **sized)
            return with_small_stem(model, input_shape) if stem == "small" else model

        return described(make, input_shape)

    return build


def with_small_stem(model: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """The model with a first convolution fit for small images: 3 x 3, stride 1; a max-pooling after it that the model
    calls `maxpool` goes. Raises UserError for a model without convolutions.
    """
    found = next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None:
        raise UserError("small needs a net that begins with a convolution", option="stem", joint=": ")
    name, old = found
    new = nn.Conv2d(input_shape[0], old.out_channels, 3, stride=1, padding=1, bias=old.bias is not None)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)
    if isinstance(getattr(model, "maxpool", None), nn.MaxPool2d):
        model.maxpool = nn.Identity()
    return model
