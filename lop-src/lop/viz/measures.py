"""What the columns of the tables mean to people: name, range, direction, and how a value is written.

Tables on disk hold fractions; what people see is in percent, and a change in percentage points. That is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import Formatter

from lop.metrics import METRICS
from lop.utils.errors import UserError


@dataclass(frozen=True)
class Measure:
    """One measured quantity, in a column of a table.

    range: smallest and largest possible value, None where there is no bound. higher_is_better: None where neither end
    is good.
    """

    column: str
    label: str
    range: tuple[float | None, float | None] = (None, None)
    higher_is_better: bool | None = None

    @property
    def unit(self) -> str:
        """`%` for a share of something, in [0, 1] in the tables; else nothing."""
        return "%" if tuple(self.range) == (0, 1) else ""

    def text(self, value: float, digits: int = 3) -> str:
        """`93.4%`, or with so many digits after the point; a dash for what is not finite."""
        if not np.isfinite(value):
            return "-"
        if self.unit:
            return f"{100 * value:.1f}%"
        return str(int(value)) if float(value).is_integer() else f"{value:.{digits}f}"

    def change_text(self, change: float, low: float, high: float, digits: int = 3) -> str:
        """`-4.0 pp [-5.2, -2.9]`: a difference of two values with its interval, where that is known.

        In percentage points (pp) where the measure is in percent.
        """
        scale, digits, unit = (100, 1, " pp") if self.unit else (1, digits, "")
        one, *ends = (f"{scale * value:+.{digits}f}" if np.isfinite(value) else "-" for value in (change, low, high))
        interval = f" [{ends[0]}, {ends[1]}]" if np.isfinite(low) else ""
        return one + (unit if np.isfinite(change) else "") + interval

    def format_axis(self, axis) -> None:
        """Percent on the ticks of an axis that holds shares."""
        if self.unit:
            axis.set_major_formatter(Percent())


# Online performance by what follows the prefix of its column; a run has one of them.
ONLINE = {
    "accuracy": Measure("online_accuracy", "Online accuracy", (0, 1), True),
    "return": Measure("online_return", "Return per episode", (None, None), True),
    "loss": Measure("online_loss", "Online loss", (0, None), False),
}
FINAL = ("test_acc", "train_acc")  # what was reached after a task, the first that was measured


def measure_of(column: str) -> Measure:
    """What a column of the tables holds: online performance, a diagnostic (`test_acc_after`) or a plain number."""
    if column.startswith("online_") and (kind := column.removeprefix("online_")) in ONLINE:
        return replace(ONLINE[kind], column=column)
    name = column.removesuffix("_before").removesuffix("_after")
    if name in METRICS:
        metric = METRICS[name]
        smallest, largest = metric.range
        return Measure(column, metric.label[0].upper() + metric.label[1:], (smallest, largest), metric.higher_is_better)
    return Measure(column, column)


def performance(table: pd.DataFrame, prefix: str = "online_") -> Measure:
    """Online accuracy; RL: the return; regression: the online loss.

    Raises UserError for a table that has none of them.
    """
    present = [replace(known, column=prefix + kind) for kind, known in ONLINE.items() if prefix + kind in table.columns]
    if not present:
        raise UserError(
            f"the table has no column {', '.join(prefix + kind for kind in ONLINE)}: no performance to plot"
        )
    return next((measure for measure in present if table[measure.column].notna().any()), present[-1])


def final_measure(tasks: pd.DataFrame) -> Measure:
    """What was reached after a task: test or training accuracy, else online performance."""
    online = performance(tasks)
    columns = [f"{name}_after" for name in FINAL] if online.unit else []
    found = [column for column in columns if column in tasks.columns and tasks[column].notna().any()]
    return measure_of(found[0]) if found else online


def better(measure: Measure) -> str:
    """An arrow in the direction that is better, where the field agrees on one."""
    return {None: "", True: " ↑", False: " ↓"}[measure.higher_is_better]


class Percent(Formatter):
    """Fractions as percentages, all ticks with as many decimals as the finest of them needs."""

    decimals = 0

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        ticks = np.asarray(values, dtype=float) * 100
        self.decimals = next((n for n in range(4) if np.allclose(ticks, ticks.round(n), rtol=0, atol=1e-6)), 4)
        return [self(value) for value in values]

    def __call__(self, value: float, pos: int | None = None) -> str:
        return f"{100 * value:.{self.decimals}f}%"


def value_axis(ax: Axes, measure: Measure | None = None) -> None:
    """The y axis: percent for shares; logarithmic where values span more than two decades and none is negative, linear
    next to zeros."""
    if measure is not None and measure.unit:
        measure.format_axis(ax.yaxis)
        return
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.get_lines()] or [np.empty(0)])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if len(positive) and values.min() >= 0 and positive.max() > 100 * positive.min():
        if values.min() > 0:
            ax.set_yscale("log")
        else:
            least = max(positive.min(), 1e-6 * positive.max())
            ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(least)), linscale=0.5)
            ax.set_ylim(bottom=0)
    else:
        ax.ticklabel_format(axis="y", useOffset=False)
