"""Optimizers of torch without torch's compiler, which no step here is traced by.

The first call of an optimizer's methods imports it (`torch._dynamo`: two seconds of every process that trains), only to
tell it to keep out of them.
"""

import inspect

import torch
from torch.optim import Optimizer

_KEPT_OUT = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")


def _spare_the_compiler() -> None:
    """From now on torch's optimizers call these methods as they are written.

    torch looks for what to call on the function itself, and keeps it there. A torch that does not is not changed.
    """
    for name in _KEPT_OUT:
        function = inspect.unwrap(getattr(Optimizer, name))
        if not hasattr(function, "__dynamo_disable"):
            setattr(function, "__dynamo_disable", function)  # torch's own mark, of which its types know nothing


_spare_the_compiler()


def eager_step(optimizer: Optimizer) -> None:
    """`optimizer.step()` of a class of `torch.optim` whose step is not differentiated, without its hooks and profiling:
    those of the optimizer around it are called."""
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)
