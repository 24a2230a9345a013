"""How every figure looks: one colour per label, one band per mean, no global state."""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import MaxNLocator

from lop.runs.statistics import mean_interval
from lop.utils.errors import UserError

# Okabe & Ito (2008), told apart by people with any common colour blindness; black and yellow are left out
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BASELINE_COLOR = "#767676"
MOST_MARKERS = 25  # points of a curve up to which they are marked
MOST_INSIDE = 5  # labels of a legend that is drawn over a panel's free corner
WIDTH = 9.0  # inches; about the text column of a notebook
LETTER, HANDLE, LINE = 0.085, 0.75, 0.21  # inches of a legend: a letter, what else an entry takes, the height of a line
STYLE = {
    **sns.axes_style("whitegrid"),
    "font.size": 11,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": "#9a9a9a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "grid.color": "#e6e6e6",
    "lines.linewidth": 1.9,
    "lines.markersize": 4.5,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
}


class Figure(MatplotlibFigure):
    """A matplotlib figure that a notebook shows by itself: no pyplot, no backend, nothing to close."""

    def _repr_png_(self) -> tuple[bytes, dict]:
        """PNG at twice the displayed resolution, on white also where the notebook is dark."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=180, facecolor="white")
        width, height = self.get_size_inches()
        return buffer.getvalue(), {"width": round(90 * width), "height": round(90 * height)}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw with this module's style and leave matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(rows: int, columns: int, height: float, width: float = WIDTH, **subplots) -> tuple[Figure, np.ndarray]:
    """A figure of width x height inches and its (rows, columns) axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def legend_below(figure: Figure, handles: Sequence[Any], title: str | None = None) -> None:
    """One legend for the whole figure, below it, where it lies on no curve; the figure grows by its height.

    handles: artists with labels, of which the first of each label counts. As many columns as the labels leave room for.
    """
    named = {handle.get_label(): handle for handle in handles if not str(handle.get_label()).startswith("_")}
    width, height = figure.get_size_inches()
    longest = max((len(label) for label in named), default=0)
    columns = max(1, min(4, len(named), int(width / (LETTER * longest + HANDLE))))
    lines = -(-len(named) // columns) + (len(title.splitlines()) if title else 0)
    figure.set_size_inches(width, height + LINE * lines + 0.1)
    figure.legend(handles=list(named.values()), title=title, loc="outside lower center", ncols=columns)


def handles_of(ax: Axes) -> list[Any]:
    """What a legend of these axes shows."""
    return list(ax.get_legend_handles_labels()[0])


def prepared(table: pd.DataFrame, required: Sequence[str]) -> pd.DataFrame:
    """The table with a `label` per kind of run; runs of one label that differ in more than the seed are told apart.

    Raises UserError for a table without rows or without a required column.
    """
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise UserError(f"the table has no column {missing[0]!r}; this figure needs {', '.join(required)}")
    if table.empty:
        raise UserError("the table has no rows: nothing to plot; has the run finished its first task?")
    table = table.copy()
    if "label" not in table.columns:
        table["label"] = table["optimizer"] if "optimizer" in table.columns else "run"
    if "run" not in table.columns:
        table["run"] = table["label"]
    if "seed" not in table.columns:
        table["seed"] = table["run"]
    shown = table["label"].astype(str)
    for column, prefix in (("benchmark", ""), ("lr", "lr ")):
        if column in table.columns:
            several = table.groupby("label")[column].transform("nunique") > 1
            shown = shown.where(~several, shown + f" ({prefix}" + table[column].astype(str) + ")")
    table["label"] = shown
    return table


def label_styles(table: pd.DataFrame, baselines: Sequence[str], among: Sequence[str] = ()) -> dict[str, dict]:
    """Line style by label, baselines last and in grey (not where there is nothing but a baseline).

    among: all labels that share the colours, where the table has only some of them.
    """
    present = list(dict.fromkeys(table["label"]))
    labels = list(dict.fromkeys([*among, *present]))
    if len(labels) == 1:
        baselines = ()
    ordinary = [label for label in labels if label not in baselines]
    styles: dict[str, dict[str, Any]] = {
        label: {
            "color": PALETTE[i % len(PALETTE)],
            "linestyle": DASHES[(i // len(PALETTE) + i) % len(DASHES)] if i else "-",
            "marker": MARKERS[i % len(MARKERS)],
        }
        for i, label in enumerate(ordinary)
    }
    for i, label in enumerate(label for label in labels if label in baselines):
        styles[label] = {"color": BASELINE_COLOR, "linestyle": DASHES[i % len(DASHES)], "marker": ".", "zorder": 1.5}
    return {label: style for label, style in styles.items() if label in present}


def mean_and_error(table: pd.DataFrame, x: str, value: str) -> pd.DataFrame:
    """Mean and standard error of `value` over seeds at every x (index); the error is NaN for a single seed.

    Runs of one seed are one: they are averaged first.
    """
    table = table.replace([np.inf, -np.inf], np.nan)
    seeds = table.groupby([x, "seed" if "seed" in table.columns else "run"])[value].mean().reset_index()
    grouped = seeds.groupby(x)[value]
    return pd.DataFrame({"mean": grouped.mean(), "error": grouped.sem()})


def draw_mean(ax: Axes, table: pd.DataFrame, x: str, value: str, **style) -> None:
    """One line: the mean over the runs in the table, with a band of one standard error where there are several."""
    curve = mean_and_error(table, x, value)
    if len(curve) > MOST_MARKERS:
        style["marker"] = ""
    ax.plot(curve.index, curve["mean"], **style)
    if curve["error"].notna().any():
        low, high = curve["mean"] - curve["error"], curve["mean"] + curve["error"]
        ax.fill_between(curve.index, low, high, color=style.get("color"), alpha=0.18, linewidth=0)


def label_legend(figure: Figure, ax: Axes) -> None:
    """Inside the panel where a few labels leave it room, else below the whole figure."""
    if len(ax.get_legend_handles_labels()[1]) <= MOST_INSIDE:
        ax.legend(loc="best")
    else:
        legend_below(figure, handles_of(ax))


def task_axis(ax: Axes) -> None:
    """Whole task numbers on the x axis."""
    ax.set_xlabel("Task")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10], min_n_ticks=1))


def at_least(ax: Axes, span: float) -> None:
    """Widen the x axis around its middle to a least span, so that a hair's breadth does not look like a gulf."""
    low, high = ax.get_xlim()
    if high - low < span:
        middle = (low + high) / 2
        ax.set_xlim(middle - span / 2, middle + span / 2)


def unzoomed(ax: Axes, whole: tuple[float, float]) -> None:
    """Widen the x axis to hold this range, too."""
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, whole[0]), max(high, whole[1]))


def interval_bars(values: pd.Series) -> np.ndarray | None:
    """How far the 95% bootstrap interval over seeds reaches to either side of the mean, (2, 1); None for one seed."""
    found = mean_interval(values)
    return None if found.seeds < 2 else np.array([[found.value - found.low], [found.high - found.value]])


def note_empty(ax: Axes, values) -> None:
    """Say so in a panel that has nothing to show."""
    if not np.isfinite(np.asarray(values, dtype=float)).any():
        ax.text(0.5, 0.5, "no values: diverged\nor not measured", transform=ax.transAxes, ha="center", va="center")


def seeds_note(table: pd.DataFrame, what: str = "mean ± standard error") -> str:
    """`mean +- standard error over 5 seeds`, or nothing for single runs."""
    most = table.groupby("label")["seed" if "seed" in table.columns else "run"].nunique()
    if most.max() == 1:
        return ""
    count = f"{most.min()}" if most.min() == most.max() else f"{most.min()} to {most.max()}"
    return f"{what} over {count} seeds"


def intervals_note(table: pd.DataFrame) -> str:
    """`mean and 95% bootstrap interval over 5 seeds`, or nothing for single runs."""
    return seeds_note(table, "mean and 95% bootstrap interval")
