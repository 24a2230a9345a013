"""Errors a user can cause, each one line: what is wrong, where, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST = 320  # characters of a message
_SHOWN_AT_ONCE = 100  # of a value


class UserError(ValueError):
    """A mistake in an input (name, key, value, file); shown as one line, without a traceback.

    option: the one it is about, by its name where it is checked and by its path in the config where that is known
    (`within`). The line is then the option, `joint` and the message. Long lines are shortened in the middle.
    """

    def __init__(self, message: str, *, option: str | None = None, joint: str = " "):
        self.message, self.option, self.joint = message, option, joint
        super().__init__(shortened(f"{option}{joint}{message}" if option else message))

    def within(self, section: str) -> UserError:
        """The same of a section of the config: `lr` within `optimizer` is `optimizer.lr`."""
        error = type(self).__new__(type(self))  # subclasses are built from other things
        vars(error).update(vars(self))
        inner, joint = (section, ": ") if self.option is None else (f"{section}.{self.option}", self.joint)
        UserError.__init__(error, self.message, option=inner, joint=joint)
        return error

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows for it."""
        return [f"error: {self}"]


class MissingDataError(UserError):
    """A data set that is nowhere. dataset: its name. The message says how to fetch it."""

    def __init__(self, message: str, dataset: str):
        super().__init__(message)
        self.dataset = dataset


def shortened(text: str) -> str:
    """One line of at most `LONGEST` characters: what stands in the middle goes first."""
    text = " ".join(text.splitlines())
    if len(text) <= LONGEST:
        return text
    half = (LONGEST - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def shown(value: Any) -> str:
    """A value in a message: one line, not too long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return "a huge number"
    return text if len(text) <= _SHOWN_AT_ONCE else text[: _SHOWN_AT_ONCE - 3] + "..."


def near_matches(name: str, known: Iterable[str]) -> str:
    """`did you mean 'adam', 'adamw'?`, or the full list when nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name)[:100], known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + ", ".join(repr(n) for n in near) + "?"
    return "known: " + ", ".join(known)


def lookup(table: dict, name: str, kind: str):
    """The entry of a registry. Raises UserError with the near matches for a name that is not in it."""
    try:
        return table[name]
    except (KeyError, TypeError):  # a list where a name belongs
        raise UserError(f"unknown {kind} {shown(name)}: {near_matches(name, table)}") from None
