"""Figures of a study: what was found with intervals, how it was tuned, how the methods rank."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from lop.runs.statistics import mean_interval
from lop.utils.errors import UserError
from lop.viz.measures import measure_of
from lop.viz.style import Figure, handles_of, label_styles, legend_below, new_figure, styled

MOST_TICKS = 8
PANELS = {"early": "Early tasks", "late": "Late tasks", "mean": "All tasks", "equal_time": "All tasks, equal time"}


def _ordered(comparison: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    rows = comparison[comparison["seeds"] > 0]
    if rows.empty:
        raise UserError("no run of the evaluation has ended: nothing to plot")
    lower = measure_of(rows["measure"].iloc[0]).higher_is_better is False
    return rows.sort_values("mean", ascending=lower, kind="stable"), lower


@styled
def study_scores(comparison: pd.DataFrame, *, reference: str = "", panels: Sequence[str] = tuple(PANELS)) -> Figure:
    """Early, late and mean performance at equal steps, and the mean at equal time, best method on top.

    comparison: the rows of one benchmark of a study's table. Bars: 95% bootstrap intervals over seeds; a dashed line:
    the reference. Raises UserError where no run has ended.
    """
    rows, _ = _ordered(comparison)
    measure = measure_of(rows["measure"].iloc[0])
    shown = [name for name in panels if rows[name].notna().any()]
    styles = label_styles(pd.DataFrame({"label": comparison["method"]}), [reference])
    figure, axes = new_figure(1, len(shown), height=1.3 + 0.34 * len(rows), sharey=True)
    for ax, name in zip(axes[0], shown, strict=True):
        _forest(ax, rows, name, styles)
        if reference in set(rows["method"]):
            ax.axvline(rows.set_index("method").loc[reference, name], color="#767676", linestyle="--", linewidth=1)
        ax.set_title(PANELS[name])
        measure.format_axis(ax.xaxis)
        ax.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(-np.arange(len(rows)), list(rows["method"]))
    axes[0, 0].set_ylim(-len(rows) + 0.4, 0.6)
    seeds = int(rows["seeds"].max())
    note = f"mean and 95% interval, {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{measure.label} ({note})", x=0.01, ha="left")
    return figure


def _forest(ax: Axes, rows: pd.DataFrame, name: str, styles: dict[str, dict]) -> None:
    for place, row in enumerate(rows.itertuples()):
        value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_low", "_high"))
        reach = [[max(0.0, value - low)], [max(0.0, high - value)]] if np.isfinite(low) else None
        color = styles[row.method]["color"]
        ax.errorbar([value], [-place], xerr=reach, fmt="o", color=color, capsize=3, markersize=6)
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.08)


@styled
def study_changes(comparison: pd.DataFrame, *, reference: str = "") -> Figure:
    """From the early to the late tasks: the change with its 95% interval, per method; what was lost is left of zero.

    Of losses, where lower is better, what was lost is right of zero. Raises UserError where no run has ended.
    """
    rows, lower = _ordered(comparison)
    measure = measure_of(rows["measure"].iloc[0])
    styles = label_styles(pd.DataFrame({"label": comparison["method"]}), [reference])
    figure, axes = new_figure(1, 1, height=1.3 + 0.34 * len(rows))
    ax = axes[0, 0]
    scale = 100 if measure.unit else 1
    names = ["change", "change_low", "change_high"]
    _forest(ax, rows.assign(**{name: scale * rows[name] for name in names}), "change", styles)
    ax.axvline(0, color="#555555", linewidth=1)
    ax.set_yticks(-np.arange(len(rows)), list(rows["method"]))
    ax.set_ylim(-len(rows) + 0.4, 0.6)
    unit = ", percentage points" if measure.unit else ""
    ax.set_xlabel(
        f"Late minus early {measure.label.lower()}{unit} ({'right' if lower else 'left'} of 0: plasticity lost)"
    )
    figure.suptitle("What was lost?", x=0.01, ha="left")
    return figure


@styled
def tuning_curves(tuning: pd.DataFrame, *, measure: str = "online_accuracy", key: str | None = None) -> Figure:
    """Performance over the values tried of a key, one panel per method, of one benchmark.

    tuning: the rows of one benchmark of a study's table. key: default: of each method the first with two numbers. Where
    a method has other keys, the best over them is drawn. Bars: smallest and largest of the tuning seeds; large marker:
    the chosen setting; a red one is at the edge of what was tried. Raises UserError where nothing was tuned.
    """
    groups = tuning.groupby("method", sort=False) if len(tuning) else ()
    curves = {str(name): curve for name, rows in groups if (curve := _curve(rows, key)) is not None}
    if not curves:
        raise UserError("no method has a numeric key with two values: nothing was tuned")
    across = min(4, len(curves))
    down = -(-len(curves) // across)
    figure, axes = new_figure(down, across, height=0.6 + 1.9 * down, sharey=True)
    measured = measure_of(measure)
    for ax in axes.flat[len(curves) :]:
        ax.set_visible(False)
    for ax, (name, found) in zip(axes.flat, curves.items(), strict=False):
        path, table = found
        reach = np.abs([table["mean"] - table["low"], table["high"] - table["mean"]])
        ax.errorbar(table["value"], table["mean"], yerr=reach, color="#0072B2", marker="o", capsize=2, linewidth=1.4)
        best = table[table["chosen"]]
        color = "#D55E00" if (best["at_edge"] != "").any() else "#009E73"
        ax.plot(
            best["value"], best["mean"], "o", markersize=10, markerfacecolor="none", markeredgewidth=2.2, color=color
        )
        for edge in (table["value"].min(), table["value"].max()):
            ax.axvline(edge, color="#9a9a9a", linestyle=":", linewidth=1)
        if (table["value"] > 0).all():
            ax.set_xscale("log")
        if len(table) <= MOST_TICKS:
            ax.set_xticks(table["value"], [f"{value:g}" for value in table["value"]], rotation=45)
            ax.xaxis.set_minor_locator(NullLocator())
        measured.format_axis(ax.yaxis)
        ax.set_title(name)
        ax.set_xlabel(path.rsplit(".", 1)[-1] if path.startswith("optimizer.") else path)
    for ax in axes[:, 0]:
        ax.set_ylabel(measured.label)
    figure.suptitle("Tuning: green ring chosen, red ring chosen at the edge of the grid (dotted)", x=0.01, ha="left")
    return figure


def _curve(rows: pd.DataFrame, key: str | None) -> tuple[str, pd.DataFrame] | None:
    """(key, table of value, mean, low, high, chosen, at_edge), the best over the other keys."""
    settings = [json.loads(text) for text in rows["setting"]]
    for path in [key] if key else list(settings[0]):
        values = [setting.get(path) for setting in settings]
        numbers = {value for value in values if isinstance(value, int | float) and not isinstance(value, bool)}
        if len(numbers) > 1:
            table = rows.assign(value=values).sort_values(["chosen", "mean"], ascending=False, kind="stable")
            return path, table.drop_duplicates("value").sort_values("value")
    return None


@styled
def study_ranks(runs: pd.DataFrame, *, reference: str = "") -> Figure:
    """How the methods rank over all benchmarks and seeds.

    runs: a study's table of runs; its evaluation runs count. Left: performance profiles (Dolan & Moré 2002; Agarwal et
    al. 2021), the share of runs that score at least so much, where 0 is the worst and 1 the best method's mean on the
    benchmark. Right: mean rank among the methods on the same benchmark and seed, 1 is best, with its 95% bootstrap
    interval. Raises UserError for fewer than two methods.
    """
    scores = scaled_scores(runs)
    if scores["method"].nunique() < 2:
        raise UserError("fewer than two methods have ended runs: nothing to rank")
    styles = label_styles(pd.DataFrame({"label": runs["method"]}), [reference])
    ranks = {name: mean_interval(list(rows["rank"])) for name, rows in scores.groupby("method", sort=False)}
    ordered = sorted(ranks, key=lambda name: ranks[name].value)
    figure, axes = new_figure(1, 2, height=max(3.2, 1.3 + 0.34 * len(ordered)))
    profile, rank = axes[0]
    taus = np.linspace(min(0.0, float(scores["scaled"].min())), max(1.0, float(scores["scaled"].max())), 201)
    for name in ordered:
        own = scores.loc[scores["method"] == name, "scaled"].to_numpy()
        look = {"color": styles[name]["color"], "linestyle": styles[name]["linestyle"]}
        profile.step(taus, [(own >= tau).mean() for tau in taus], where="post", label=name, **look)
    profile.set(xlabel="Scaled score (0 worst, 1 best method)", ylabel="Share of runs at or above", title="Profiles")
    for place, name in enumerate(ordered):
        one = ranks[name]
        reach = [[one.value - one.low], [one.high - one.value]] if np.isfinite(one.low) else None
        rank.errorbar([one.value], [-place], xerr=reach, fmt="o", capsize=3, color=styles[name]["color"])
    rank.set_yticks(-np.arange(len(ordered)), ordered)
    rank.set_ylim(-len(ordered) + 0.4, 0.6)
    rank.grid(axis="y", visible=False)
    rank.set(xlabel="Mean rank (1 is best)", title="Ranks")
    count = scores["benchmark"].nunique()
    legend_below(figure, handles_of(profile))
    figure.suptitle(f"Over {count} benchmark{'s' if count > 1 else ''} and all seeds", x=0.01, ha="left")
    return figure


def scaled_scores(runs: pd.DataFrame) -> pd.DataFrame:
    """The evaluation runs with their score scaled on their benchmark, and their rank among methods of the same seed.

    Columns: benchmark, method, seed, scaled (0: the worst method's mean, 1: the best one's), rank (1 is best; ties
    share the mean of their places; only seeds that every method of the benchmark has).
    """
    ended = runs[(runs["purpose"] == "evaluation") & runs.get("mean", pd.Series(np.nan, runs.index)).notna()]
    parts = []
    for _, rows in ended.groupby("benchmark", sort=False):
        sign = -1.0 if measure_of(rows["measure"].iloc[0]).higher_is_better is False else 1.0
        value = sign * rows["mean"]
        means = value.groupby(rows["method"]).mean()
        width = float(means.max() - means.min()) or 1.0
        scaled = (value - means.min()) / width
        whole = rows.groupby("seed")["method"].transform("nunique") == rows["method"].nunique()
        rank = value.where(whole).groupby(rows["seed"]).rank(ascending=False)
        parts.append(rows[["benchmark", "method", "seed"]].assign(scaled=scaled, rank=rank))
    empty = pd.DataFrame({"benchmark": [], "method": [], "seed": [], "scaled": [], "rank": []})
    return pd.concat(parts, ignore_index=True) if parts else empty
