"""A small form for a notebook: optimizer, benchmark, interventions; it writes the parameters."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from lop.algos import INTERVENTIONS
from lop.optimizers import list_optimizers
from lop.plan import BENCHMARKS
from lop.utils.attended import attended


class Choice:
    """What was chosen: `parameters` go to `lop.notebook.plan`. Without a form, they are what was given."""

    def __init__(self, parameters: dict[str, Any]):
        self.parameters = parameters

    @property
    def command(self) -> str:
        """The same choice on the command line."""
        given = {name: value for name, value in self.parameters.items() if value}
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        words = [f"-p {name} {shlex.quote(text)}" for name, text in texts.items()]
        return " ".join(["papermill run-expr.ipynb out.ipynb", *words])


def launcher(*, optimizer: str | None = None, benchmark: str | None = None, algos: Sequence[Any] | str = ()) -> Choice:
    """Display the form where somebody can use it, and return its choice, which follows the form."""
    choice = Choice({"optimizer": optimizer, "benchmark": benchmark, "algos": algos})
    if attended():
        from IPython.display import display

        display(form(choice))
    return choice


def form(choice: Choice) -> Any:
    """The widgets (an ipywidgets box), which write into `choice.parameters`."""
    import ipywidgets as widgets

    given = choice.parameters
    wide = {"style": {"description_width": "90px"}, "layout": {"width": "420px"}}
    optimizers, benchmarks = list_optimizers(), list(BENCHMARKS)
    names = [algo if isinstance(algo, str) else algo["name"] for algo in _listed(given["algos"])]
    fields = {
        "optimizer": widgets.Combobox(
            value=given["optimizer"] or "sassha",
            options=optimizers,
            description="optimizer",
            ensure_option=False,
            **wide,
        ),
        "benchmark": widgets.Dropdown(
            value=given["benchmark"] or "permuted_digits", options=benchmarks, description="benchmark", **wide
        ),
        "algos": widgets.SelectMultiple(
            value=[name for name in names if name in INTERVENTIONS],
            options=sorted(INTERVENTIONS),
            description="algos",
            rows=6,
            **wide,
        ),
    }
    command = widgets.HTML()

    def write(change: dict[str, Any] | None = None) -> None:
        if change is not None:
            value = change["new"]
            name = next(name for name, field in fields.items() if field is change["owner"])
            given[name] = list(value) if name == "algos" else value
        command.value = f"<code>{choice.command}</code>"

    for field in fields.values():
        field.observe(write, names="value")
    write()
    return widgets.VBox([*fields.values(), command])


def _listed(algos: Sequence[Any] | str) -> list[Any]:
    return [part.strip() for part in algos.split(",") if part.strip()] if isinstance(algos, str) else list(algos)
