"""Checks that every benchmark makes of its options."""

from lop.utils.errors import UserError


def require_batch(batch_size: int, examples: int, *, option: str = "batch_size") -> None:
    """Raises UserError when not even one full batch can be made."""
    if batch_size > examples:
        raise UserError(f"must be <= the {examples} examples of a task, got {batch_size}", option=option)
