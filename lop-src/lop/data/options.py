"""Checks that every benchmark makes of its options."""

from lop.utils.errors import UserError


def require_positive(**options: int | None) -> None:
    """Raises UserError naming the first option that is below 1; None means that it is not set."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise UserError(f"{name} must be >= 1, got {value}")


def require_batch(batch_size: int, examples: int) -> None:
    """Raises UserError when not even one full batch can be made."""
    if batch_size > examples:
        raise UserError(f"batch_size must be <= the {examples} examples of a task, got {batch_size}")
