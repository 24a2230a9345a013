"""Measuring without leaving a trace."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def probing(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Iterator[None]:
    """Every diagnostic and evaluation runs in here; the model is in evaluation mode.

    At the end everything is as before: the mode and the other attributes of every submodule, buffers (BatchNorm's
    running statistics), `.grad` (inside, it is None), hooks, the generators the optimizer owns, the global random state
    of torch, numpy and Python. Whether gradients are recorded is left to the caller. Can be nested. Parameters are not
    copied: change them only through `torch.func.functional_call`.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
    grads = [(p, p.grad) for p in model.parameters()]
    written = [m for m in modules if not isinstance(m, torch.jit.ScriptModule)]  # those have nothing else to change
    attributes = [(m, dict(vars(m))) for m in written]
    tables = [(table, dict(table)) for m in written for table in (m._buffers, *(getattr(m, kind) for kind in _HOOKS))]
    generators = [(g, g.get_state()) for g in _generators(optimizer)]
    drawn = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices={p.device for p in model.parameters() if p.is_cuda}):
        try:
            for p, _ in grads:
                p.grad = None
            copies = {buffer: buffer.clone() for buffer, *_ in buffers}  # a graph may be waiting for those as they are
            for module in written:
                module._buffers.update({name: copies[b] for name, b in module._buffers.items() if b is not None})
            model.eval()
            yield
        finally:
            for module, values in attributes:
                for name in vars(module).keys() - values.keys():
                    del vars(module)[name]
                vars(module).update(values)
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for table, content in tables:  # in place: a hook's handle refers to its table
                table.clear()
                table.update(content)
            with torch.no_grad():
                for buffer, version, value in buffers:
                    if buffer._version != version:
                        buffer.copy_(value)
            for p, grad in grads:
                p.grad = grad
            for generator, state in generators:
                generator.set_state(state)
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])


def _generators(optimizer: torch.optim.Optimizer | None) -> list[torch.Generator]:
    owned = list(vars(optimizer).values()) if optimizer is not None else []
    return [value for value in owned if isinstance(value, torch.Generator)]
