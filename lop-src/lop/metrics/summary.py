"""The printed summary of a task."""

RULE = "=" * 70
_ROWS = (
    ("avg_weight_mag", ".6f"),
    ("ntk_eff_rank", ".2f"),
    ("ntk_cond", ".2f"),
    ("eff_rank", ".2f"),
    ("stable_rank", ".0f"),
    ("approx_rank", ".0f"),
    ("dormant_proportion", ".4f"),
)


def format_summary(task_index: int, before: dict, after: dict, scores: dict[str, float] | None = None) -> str:
    """The summary of one task from the dashboard's values before and after it, without a final line break.

    scores: the first line, in place of the loss and accuracies after the task. A value that could not be computed
    prints as nan.
    """
    scores = scores or {name: after[name] for name in ("loss", "train_acc", "test_acc")}
    line = "  |  ".join(f"{name}: {value:.4f}" for name, value in scores.items())
    rows = [_row(name, f"{before[name]:{form}} -> {after[name]:{form}}") for name, form in _ROWS]
    rows.insert(1, _row("ntk_churn", f"{after['ntk_churn']:.6f}"))
    return "\n".join([RULE, f"  Task {task_index} Summary", RULE, f"  {line}", *rows, RULE])


def _row(name: str, value: str) -> str:
    return f"  {name + ':':<20} {value}"
