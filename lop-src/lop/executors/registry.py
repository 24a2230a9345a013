"""Executors by name: one class each, whose options stand beside the name in a grid's or a study's file."""

from __future__ import annotations

from typing import Any

from lop.executors.jobs import Executor
from lop.utils.errors import UserError, lookup, shown
from lop.utils.options import check_options
from lop.utils.registry import Registry

EXECUTORS: Registry[type] = Registry("executor")
executor = EXECUTORS.register  # decorator: @executor("name")


def make_executor(given: str | dict[str, Any]) -> Executor:
    """`local`, or `{name: local, parallel: 4}`. Raises UserError for an unknown name, option or value."""
    section = {"name": given} if isinstance(given, str) else given
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        raise UserError(f"expected a name, or a name with options beside it, got {shown(given)}", option="executor")
    options = {name: value for name, value in section.items() if name != "name"}
    made = lookup(EXECUTORS, section["name"], "executor")
    return made(**check_options("executor", made, options))
