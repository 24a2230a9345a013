"""Errors a user can cause, each one line: what is wrong, where, what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in an input (name, key, value, file); shown as one line, without a traceback."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).splitlines()))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows for it."""
        return [f"error: {self}"]


class MissingDataError(UserError):
    """A data set that is nowhere. dataset: its name. The message says how to fetch it."""

    def __init__(self, message: str, dataset: str):
        super().__init__(message)
        self.dataset = dataset


def near_matches(name: str, known: Iterable[str]) -> str:
    """`did you mean 'adam', 'adamw'?`, or the full list when nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + ", ".join(repr(n) for n in near) + "?"
    return "known: " + ", ".join(known)


def lookup(table: dict, name: str, kind: str):
    """The entry of a registry. Raises UserError with the near matches for a name that is not in it."""
    try:
        return table[name]
    except KeyError:
        raise UserError(f"unknown {kind} {name!r}: {near_matches(name, table)}") from None
