"""What torch cannot differentiate twice."""

from __future__ import annotations

import re

from torch import nn

from lop.utils.errors import UserError

_MISSING = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")  # torch says it in words alone
_NAMED = 3  # modules in a message


def missing_derivative(error: RuntimeError, optimizer: str, model: nn.Module | None) -> UserError | None:
    """The same in one line: the function that has no second derivative, the modules that use it, what to do.

    None for an error that says something else. model: the net, where it is known.
    """
    found = _MISSING.search(str(error))
    if found is None:
        return None
    function = found[1].strip("_").removesuffix("_backward")
    own = [] if model is None else list(model.named_modules())
    names = [name for name, module in own if type(module).__name__.lower() == function.replace("_", "")]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    where = (", ".join(names[:_NAMED]) or "the net") + more
    problem = f"{optimizer} differentiates the loss twice, and torch has no second derivative of {function}"
    return UserError(f"{problem} ({where}): put another module there, or choose an optimizer of first order, e.g. adam")
