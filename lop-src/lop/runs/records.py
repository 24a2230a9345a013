"""From the dashboard's values to rows of the run folder's tables."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
SECONDS = {"seconds": "diagnostics_seconds", "evaluation_seconds": "evaluation_seconds"}


def scalar_columns(values: Row, phase: str) -> Row:
    """`eff_rank_before` and so on; no timings, which differ between two runs of the same config."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return {f"{name}_{phase}": value for name, value in numbers.items() if name not in SECONDS}


def timings(*phases: Row) -> Row:
    """What the diagnostics of all phases took, in seconds."""
    return {label: sum(values.get(name, 0.0) for values in phases) for name, label in SECONDS.items()}


def phase_rows(task: int, phase: str, values: Row) -> dict[str, list[Row]]:
    """The rows of one phase, by table: a row per layer, per value of a spectrum, per reason of a missing value."""
    key = {"task": task, "phase": phase}
    layers = values.get("layers", {})
    return {
        "layers": [
            {**key, "layer": i, "name": name, **{metric: column[i] for metric, column in layers.items()}}
            for i, name in enumerate(values.get("layer_names", []))
        ],
        "spectra": [
            {**key, "name": name, "index": i, "value": value}
            for name, column in values.get("spectra", {}).items()
            for i, value in enumerate(column)
        ],
        "events": [{**key, "what": name, "detail": text} for name, text in values.get("explanations", {}).items()],
    }
