"""The tensors among whatever a model takes and returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_PLAIN = (int, float, str, bytes, type(None), slice, torch.dtype, torch.device)


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists, dicts, dataclasses and other plain objects."""
    found: dict[int, Tensor] = {}
    seen: dict[int, Any] = {}

    def visit(value: Any) -> None:
        for leaf in pytree.tree_leaves(value):
            if isinstance(leaf, Tensor):
                found[id(leaf)] = leaf
            elif id(leaf) not in seen and not isinstance(leaf, (type, nn.Module, *_PLAIN)):
                seen[id(leaf)] = leaf
                if dataclasses.is_dataclass(leaf):
                    visit([getattr(leaf, one.name) for one in dataclasses.fields(leaf)])
                elif isinstance(leaf, Mapping):
                    visit(list(leaf.values()))
                elif hasattr(leaf, "__dict__") and not callable(leaf):
                    visit(list(vars(leaf).values()))

    visit(values)
    return list(found.values())


def address(tensor: Tensor) -> int:
    """Of its memory; another number of its own for a tensor without any (wrapped, sparse, empty)."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (RuntimeError, NotImplementedError):
        return id(tensor)
