"""A form to look through many runs in a notebook: choose runs, figure, diagnostics, layers, smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lop.runs import Results, load
from lop.utils.attended import attended
from lop.utils.errors import UserError
from lop.viz.compare import compare_optimizers, diagnostics_vs_accuracy
from lop.viz.diagnostics import dashboard_grid, present_metrics
from lop.viz.layers import dormant_heatmap, layer_names, layer_ranks
from lop.viz.online import online_accuracy, online_curve, within_task
from lop.viz.style import Figure, prepared

FIGURES = (
    "online accuracy",
    "online curve",
    "within tasks",
    "comparison",
    "diagnostics",
    "layer ranks",
    "dormant units",
    "diagnostics and accuracy",
)


def explore(results: Results | str | Path, *, baselines: Sequence[str] = ("sgd",)) -> None:
    """Display a form over these runs, or all below a folder. Does nothing where nobody could use it (papermill).

    Colours, names and numbers of layers are those of the same figures over all of these runs, whichever are chosen.
    Raises UserError when there are no runs.
    """
    if not attended():
        return
    from IPython.display import display

    display(form(results if isinstance(results, Results) else load(results), baselines))


def form(results: Results, baselines: Sequence[str] = ()) -> Any:
    """The widgets (an ipywidgets box): every change redraws."""
    import ipywidgets as widgets

    results = named(results)
    names = {f"{row.label}, seed {row.seed} ({row.benchmark})": row.run for row in results.runs.itertuples()}
    if len(names) < len(results.runs):  # runs that differ in something else
        names = {run: run for run in results.runs["run"]}
    layers = [(name, number) for number, name in layer_names(results.layers).items()] if len(results.layers) else []
    wide = {"style": {"description_width": "80px"}, "layout": {"width": "440px"}}
    runs = widgets.SelectMultiple(options=list(names.items()), value=list(names.values()), description="runs", **wide)
    kind = widgets.Dropdown(options=FIGURES, description="figure", **wide)
    measured = present_metrics(results.tasks, None, ["before", "after"])
    metrics = widgets.SelectMultiple(options=measured, value=measured, description="diagnostics", **wide)
    layer = widgets.SelectMultiple(options=layers, value=[number for _, number in layers], description="layers", **wide)
    smooth = widgets.IntSlider(value=1, min=1, max=50, description="smoothing", continuous_update=False, **wide)
    output = widgets.Output()

    def draw(change: dict[str, Any] | None = None) -> None:
        output.clear_output(wait=True)
        with output:
            try:
                one = figure(
                    results,
                    kind.value,
                    runs=runs.value,
                    metrics=metrics.value,
                    layers=layer.value,
                    smoothing=smooth.value,
                    baselines=baselines,
                )
            except UserError as error:
                print(error)
            else:
                from IPython.display import display

                display(one)

    for field in (runs, kind, metrics, layer, smooth):
        field.observe(draw, names="value")
    draw()
    columns = [widgets.VBox([runs, kind, smooth]), widgets.VBox([metrics, layer])]
    return widgets.VBox([widgets.HBox(columns), output])


def figure(
    results: Results,
    kind: str,
    *,
    runs: Sequence[str],
    metrics: Sequence[str],
    layers: Sequence[int],
    smoothing: int = 1,
    baselines: Sequence[str] = (),
) -> Figure:
    """One of FIGURES over the chosen runs, diagnostics and layers, in the colours that it has with all of them.

    smoothing: tasks (bins) in a running mean.
    Raises UserError when the choice leaves nothing to draw.
    """
    tasks, online, inside = (_of_runs(table, runs) for table in (results.tasks, results.online, results.layers))
    colours: dict[str, Any] = {"baselines": baselines, "among": list(dict.fromkeys(results.tasks["label"]))}
    if kind == "online accuracy":
        return online_accuracy(smoothed(tasks, smoothing), **colours)
    if kind == "online curve":
        return online_curve(smoothed(online, smoothing, by=("run",)), **colours)
    if kind == "within tasks":
        return within_task(online)
    if kind == "comparison":
        return compare_optimizers(tasks, **colours)
    if kind == "diagnostics":
        return dashboard_grid(smoothed(tasks, smoothing), metrics=list(metrics), **colours)
    if kind == "diagnostics and accuracy":
        return diagnostics_vs_accuracy(tasks, metrics=list(metrics), **colours)
    numbers = sorted(int(layer) for layer in inside["layer"].unique()) if len(inside) else []
    inside = inside[inside["layer"].isin(list(layers))] if len(inside) else inside
    return layer_ranks(inside, among=numbers) if kind == "layer ranks" else dormant_heatmap(inside)


def named(results: Results) -> Results:
    """With the labels that figures over all of these runs give them, which a choice of some does not change."""
    tables = {}
    for item in fields(results):
        table = getattr(results, item.name)
        if item.name != "runs" and isinstance(table, pd.DataFrame) and len(table):
            table = prepared(table, ["label"]).drop(columns=["lr", "benchmark"], errors="ignore")
        tables[item.name] = table
    return Results(**tables)


def _of_runs(table: pd.DataFrame, runs: Sequence[str]) -> pd.DataFrame:
    return table[table["run"].isin(list(runs))] if len(table) else table


def smoothed(table: pd.DataFrame, window: int, by: Sequence[str] = ("run",)) -> pd.DataFrame:
    """Every measured column as its running mean over the last `window` rows of its run; no value is made up."""
    if window <= 1 or table.empty:
        return table
    table = table.copy()
    fixed = {"task", "bin", "step", "steps", "examples", "seed", "lr", "layer", "diverged_step"}
    measured = [name for name in table.select_dtypes("number").columns if name not in fixed]
    means = table.groupby(list(by))[measured].transform(lambda one: one.rolling(window, min_periods=1).mean())
    table[measured] = means.where(table[measured].notna())
    return table
