"""Checks of optimizer options. Each raises UserError with a message that starts with the option's name."""

import math
from collections.abc import Sequence
from typing import Any

from lop.utils.errors import UserError, near_matches

# Keys of a parameter group that are no options: what torch and its schedulers add.
_GROUP_KEYS = {"params", "name", "param_names", "initial_lr"}


def check_at_least(name: str, value: Any, low: float, *, strict: bool = False) -> None:
    relation = ">" if strict else ">="
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < low or (strict and value == low):
        raise UserError(f"{name} must be {relation} {low}, got {value!r}")


def check_count(name: str, value: Any, low: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"{name} must be an integer >= {low}, got {value!r}")


def check_decay(name: str, value: Any) -> None:
    """The decay of a running average: 0 <= value < 1."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise UserError(f"{name} must be >= 0 and < 1, got {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_betas(name: str, value: Any) -> None:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise UserError(f"{name} must be two numbers, got {value!r}")
    for i, beta in enumerate(value):
        check_decay(f"{name}[{i}]", beta)


# How the options that may differ between parameter groups are checked, by name, in every optimizer that has them.
_GROUP_CHECKS = {
    "lr": lambda value: check_at_least("lr", value, 0),
    "weight_decay": lambda value: check_at_least("weight_decay", value, 0),
    "eps": lambda value: check_at_least("eps", value, 0),
    "epsilon": lambda value: check_at_least("epsilon", value, 0),
    "betas": lambda value: check_betas("betas", value),
    "momentum": lambda value: check_decay("momentum", value),
    "hessian_power": lambda value: check_at_least("hessian_power", value, 0),
    "clip_threshold": lambda value: check_at_least("clip_threshold", value, 0, strict=True),
}


def check_values(options: dict[str, Any]) -> None:
    """Check the options that many optimizers have in common."""
    for name, check in _GROUP_CHECKS.items():
        if name in options:
            check(options[name])


def check_group(group: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Check a parameter group's own options and the defaults it falls back to."""
    known = set(defaults) | _GROUP_KEYS
    for name in group:
        if name not in known:
            raise UserError(f"{name} is not an option of a parameter group: {near_matches(name, defaults)}")
    check_values({**defaults, **group})
