"""Measuring without leaving a trace."""

from collections.abc import Iterator
from contextlib import contextmanager

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

    At the end everything is as before: the mode of every submodule, buffers (BatchNorm's running statistics),
    `.grad` (inside, it is None), hooks, the generators the optimizer owns, the global random state. Whether
    gradients are recorded is left to the caller. Can be nested. Parameters are not copied: change them only
    through `torch.func.functional_call`.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    buffers = [(m, dict(m._buffers), [(b, b.clone()) for b in m._buffers.values() if b is not None]) for m in modules]
    grads = [(p, p.grad) for p in model.parameters()]
    hooks = [(getattr(m, kind), dict(getattr(m, kind))) for m in modules for kind in _HOOKS]
    generators = [(g, g.get_state()) for g in _generators(optimizer)]
    with torch.random.fork_rng(devices={p.device for p in model.parameters() if p.is_cuda}):
        try:
            for p, _ in grads:
                p.grad = None
            model.eval()
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for module, tensors, values in buffers:
                module._buffers.clear()
                module._buffers.update(tensors)
                with torch.no_grad():
                    for buffer, value in values:
                        buffer.copy_(value)
            for p, grad in grads:
                p.grad = grad
            for table, content in hooks:  # in place: a hook's handle refers to its table
                table.clear()
                table.update(content)
            for generator, state in generators:
                generator.set_state(state)


def _generators(optimizer: torch.optim.Optimizer | None) -> list[torch.Generator]:
    owned = list(vars(optimizer).values()) if optimizer is not None else []
    return [value for value in owned if isinstance(value, torch.Generator)]
