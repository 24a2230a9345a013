"""Figures of the per-layer diagnostics and of the NTK's spectrum."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lop.metrics import METRICS
from lop.utils.errors import UserError, lookup
from lop.viz.diagnostics import PHASE_TEXT
from lop.viz.measures import Percent, better, measure_of
from lop.viz.online import chosen_tasks, task_styles
from lop.viz.style import (
    LINE,
    Figure,
    draw_mean,
    handles_of,
    legend_below,
    new_figure,
    note_empty,
    prepared,
    seeds_note,
    styled,
    task_axis,
)


def _phase(table: pd.DataFrame, phase: str) -> pd.DataFrame:
    rows = table[table["phase"] == phase]
    if rows.empty:
        raise UserError(f"phase must be one of {sorted(table['phase'].unique())} in this table, got {phase!r}")
    return rows


def layer_names(rows: pd.DataFrame) -> dict[int, str]:
    """Layer number -> its name in the net (in each, where nets differ), or `layer 1`, ... where the table has none."""
    numbers = sorted(int(layer) for layer in rows["layer"].unique())
    if "name" not in rows.columns:
        return {number: f"layer {number + 1}" for number in numbers}
    found = rows.drop_duplicates(["layer", "name"]).groupby("layer")["name"]
    return {number: " / ".join(map(str, names)) for number, names in found if number in numbers}


@styled
def layer_ranks(
    layers: pd.DataFrame,
    *,
    metrics: Sequence[str] = ("eff_rank", "stable_rank", "approx_rank"),
    phase: str = "after",
    among: Sequence[int] = (),
) -> Figure:
    """Progression of the rank of every hidden layer over tasks: a row per label, a column per kind of rank.

    Layers go from dark (next to the input) to light (next to the output). Where labels differ in their nets, every
    row names its own layers. among: the numbers of all layers that share the colours, where the table has only some.
    """
    for metric in metrics:
        lookup(METRICS, metric, "metric")
    layers = _phase(prepared(layers, ["task", "phase", "layer", *metrics]), phase)
    labels = list(dict.fromkeys(layers["label"]))
    styles = task_styles(sorted({int(layer) for layer in layers["layer"].unique()} | set(among)))
    names = {label: layer_names(layers[layers["label"] == label]) for label in labels}
    alike = all(own == names[labels[0]] for own in names.values())
    each = max(2.5, LINE * (2 + max(map(len, names.values()))))  # inches: the legend is beside it
    figure, axes = new_figure(len(labels), len(metrics), height=0.7 + each * len(labels), sharex=True, sharey="col")
    for i, (row, label) in enumerate(zip(axes, labels, strict=True)):
        runs = layers[layers["label"] == label]
        for ax, metric in zip(row, metrics, strict=True):
            for layer, name in names[label].items():
                one = runs[runs["layer"] == layer]
                draw_mean(ax, one, "task", metric, label=name, **(styles[layer] | {"markersize": 3.5}))
            if i == 0:
                ax.set_title(measure_of(metric).label + better(measure_of(metric)))
            note_empty(ax, runs[metric])
            if METRICS[metric].integer:
                ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            task_axis(ax)
            if i < len(labels) - 1:
                ax.set_xlabel("")
        row[0].set_ylabel(label, fontweight="bold")
        if i == 0 or not alike:
            row[-1].legend(title="hidden layer", loc="center left", bbox_to_anchor=(1.0, 0.5))
    note = seeds_note(layers)
    figure.suptitle(f"Rank of each layer, {PHASE_TEXT[phase]}" + (f" ({note})" if note else ""), x=0.01, ha="left")
    return figure


@styled
def dormant_heatmap(layers: pd.DataFrame, *, metric: str = "dormant_proportion", phase: str = "after") -> Figure:
    """Dormant units per hidden layer over tasks as a heat map, one per label, mean over seeds, one colour scale.

    metric: any per-layer diagnostic. Input side at the bottom.
    """
    layers = _phase(prepared(layers, ["task", "phase", "layer", metric]), phase)
    labels, names = list(dict.fromkeys(layers["label"])), layer_names(layers)
    lookup(METRICS, metric, "metric")
    measure = measure_of(metric)
    row = 0.3 if len(names) <= 6 else 0.17  # inches
    height = 0.9 + len(labels) * (0.75 + row * len(names))
    figure, axes = new_figure(len(labels), 1, height=height, sharex=True)
    values = layers[metric].to_numpy(dtype=float)
    finite = values[np.isfinite(values)]
    top = float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    scale = {"vmin": min(0.0, float(finite.min())) if len(finite) else 0.0, "vmax": top}
    for ax, label in zip(axes[:, 0], labels, strict=True):
        one = layers[layers["label"] == label]
        cells = one.pivot_table(index="layer", columns="task", values=metric, aggfunc="mean", dropna=False)
        own = layer_names(one)
        cells.index = [own[int(layer)] for layer in cells.index]
        sns.heatmap(cells[::-1], ax=ax, cmap="cividis", cbar=False, **scale)
        note_empty(ax, cells)
        ax.set(title=label, xlabel="", ylabel="")
        ax.tick_params(axis="y", rotation=0)
        ax.tick_params(axis="x", rotation=0)
        _thin_ticks(ax, list(cells.columns))
    axes[-1, 0].set_xlabel("Task")
    bar = figure.colorbar(axes[0, 0].collections[0], ax=list(axes[:, 0]), label=measure.label, aspect=5 * height)
    measure.format_axis(bar.ax.yaxis)
    bar.outline.set_visible(False)
    figure.suptitle(f"{measure.label} by layer, {PHASE_TEXT[phase]}", x=0.01, ha="left")
    return figure


def _thin_ticks(ax: Axes, tasks: list[int]) -> None:
    every = max(1, -(-len(tasks) // 12))
    ax.set_xticks(np.arange(0, len(tasks), every) + 0.5, [f"{task:g}" for task in tasks[::every]])


@styled
def ntk_spectrum(spectra: pd.DataFrame, *, tasks: Sequence[int] | None = None, phase: str = "before") -> Figure:
    """Eigenvalues of the empirical NTK at chosen tasks, a row per label: decay (left) and cumulative energy (right).

    spectra: one row per (task, phase, name, index, value); rows named `ntk_spectrum`. tasks: as in `within_task`.
    Eigenvalues are divided by the largest of their matrix; the energy is the share of the first k in the trace.
    """
    spectra = prepared(spectra, ["task", "phase", "name", "value"])
    spectra = _phase(spectra[spectra["name"] == "ntk_spectrum"], phase)
    chosen, labels = chosen_tasks(spectra["task"], tasks), list(dict.fromkeys(spectra["label"]))
    if not chosen:
        raise UserError(f"tasks must name tasks whose spectrum was kept, got {list(tasks or [])}")
    spectra = _normalised(spectra[spectra["task"].isin(chosen)])
    figure, axes = new_figure(len(labels), 2, height=0.8 + 2.8 * len(labels), sharex=True, sharey="col")
    for (decay, energy), label in zip(axes, labels, strict=True):
        for task, style in task_styles(chosen).items():
            one = spectra[(spectra["label"] == label) & (spectra["task"] == task)]
            small = style | {"markersize": 3.5, "label": f"task {task}"}
            draw_mean(decay, one[one["relative"] > 0], "rank", "relative", **small)
            draw_mean(energy, one, "rank", "energy", **small)
        decay.set_yscale("log")
        decay.set(title=f"{label}: decay", ylabel="Eigenvalue / largest")
        energy.set(title=f"{label}: cumulative energy", ylabel="Share of the trace", ylim=(0, 1.03))
        energy.yaxis.set_major_formatter(Percent())
    for ax in axes[-1]:
        ax.set_xlabel("Eigenvalue number")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, handles_of(axes[0, 1]))
    figure.suptitle(f"Spectrum of the neural tangent kernel, {PHASE_TEXT[phase]}", x=0.01, ha="left")
    return figure


def _normalised(spectra: pd.DataFrame) -> pd.DataFrame:
    """Per matrix: eigenvalues in falling order, their number from 1, share of the largest, cumulative share."""
    matrix = ["run", "label", "task"]
    spectra = spectra.sort_values("value", ascending=False)
    spectra["value"] = spectra["value"].clip(lower=0.0)  # rounding leaves tiny negative ones
    grouped = spectra.groupby(matrix)["value"]
    spectra["rank"] = grouped.cumcount() + 1
    spectra["relative"] = spectra["value"] / grouped.transform("max")
    spectra["energy"] = grouped.cumsum() / grouped.transform("sum")
    return spectra
