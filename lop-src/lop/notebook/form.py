"""The form of a live notebook: a field for every parameter, and the command that does the same without it."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from typing import Any

from lop.algos import INTERVENTIONS
from lop.config import parse_value
from lop.data import DATASETS
from lop.notebook.choice import DEFAULTS, Choice, parsed
from lop.optimizers import list_optimizers
from lop.plan import BENCHMARKS
from lop.utils.errors import UserError

HINTS = {
    "seeds": "0-15, or 0,3,7; default: the benchmark's",
    "seed": "one seed instead",
    "num_tasks": "default: the benchmark's",
    "dataset": "default: the benchmark's; or a path",
    "lr": "step size; default: the optimizer's",
    "config": "path of a config file",
    "overrides": "optimizer.rho=0.1, net.hidden=[500, 500]",
    "settings": "a study's folder, or best",
    "data_dir": "where data sets are looked for first",
    "results_dir": "default: results",
    "time_limit_hours": "stop cleanly before this",
    "device": "auto, cpu, cuda",
    "keep": "Colab: drive or download",
}


def form(choice: Choice) -> Any:
    """The widgets (an ipywidgets box), which write into `choice.parameters`."""
    import ipywidgets as widgets

    given = choice.parameters
    wide = {"style": {"description_width": "120px"}, "layout": {"width": "440px"}}

    def text(name: str, options: Sequence[str] = ()) -> Any:
        look = {"value": _text(given[name]), "placeholder": HINTS.get(name, ""), "description": name, **wide}
        return widgets.Combobox(options=list(options), ensure_option=False, **look) if options else widgets.Text(**look)

    names = [_name(algo) for algo in listed(given["algos"])]
    fields = {
        "optimizer": text("optimizer", list_optimizers()),
        "benchmark": text("benchmark", list(BENCHMARKS)),
        "algos": widgets.SelectMultiple(
            value=[name for name in names if name in INTERVENTIONS],
            options=sorted(INTERVENTIONS),
            description="algos",
            rows=7,
            **wide,
        ),
        **{name: text(name, list(DATASETS) if name == "dataset" else ()) for name in HINTS},
        "baseline": widgets.Checkbox(value=bool(given["baseline"]), description="baseline", **wide),
        "resume": widgets.Dropdown(
            options=[("default: auto", None), "auto", "never", "require"],
            value=given["resume"],
            description="resume",
            **wide,
        ),
    }
    fields["optimizer"].placeholder, fields["benchmark"].placeholder = "default: sassha", "default: permuted_digits"
    command = widgets.HTML()

    def write(name: str) -> Callable[[dict[str, Any]], None]:
        def changed(change: dict[str, Any]) -> None:
            try:
                given[name] = _value(name, change["new"], given[name])
            except UserError as error:
                command.value = f"<b>{html.escape(str(error))}</b>"
            else:
                _say(command, choice)

        return changed

    for name, field in fields.items():
        field.observe(write(name), names="value")
    _say(command, choice)
    ordered = [fields[name] for name in DEFAULTS]
    half = 4  # the list of interventions is as high as several fields
    columns = [widgets.VBox(ordered[:half]), widgets.VBox(ordered[half:])]
    return widgets.VBox([widgets.HBox(columns), command])


def _say(command: Any, choice: Choice) -> None:
    command.value = f"The same without the form:<br><code>{html.escape(choice.command)}</code>"


def _value(name: str, new: Any, old: Any) -> Any:
    if name == "algos":  # one that stays chosen keeps its options and its place
        kept = [algo for algo in listed(old) if _name(algo) in new]
        return kept + [added for added in new if added not in map(_name, kept)]
    return parsed(new, name) if isinstance(new, str) and name != "resume" else new


def _name(algo: Any) -> str:
    return algo if isinstance(algo, str) else str(algo.get("name"))


def listed(algos: Any) -> list[Any]:
    """Interventions as a list of names and sections, whichever way they were given."""
    if isinstance(algos, str) and algos.lstrip()[:1] in ("[", "{"):
        algos = parse_value(algos, "algos")
    return [part.strip() for part in algos.split(",") if part.strip()] if isinstance(algos, str) else list(algos)


def _text(value: Any) -> str:
    """As it is typed into a field."""
    if value is None or value in ({}, []):
        return ""
    return value if isinstance(value, str) else json.dumps(value)
