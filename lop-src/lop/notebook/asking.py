"""The form on the page of a notebook that somebody sits in front of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lop.notebook.choice import DEFAULTS, Choice
from lop.notebook.form import form
from lop.notebook.parameters import check_parameters
from lop.utils.attended import attended


def ask(names: Mapping[str, Any]) -> Choice:
    """The choice that a parameters cell makes, with the form on the page where somebody can use it.

    names: the notebook's `globals()`. A form that was filled in stays as it is when the cell is run again, unless the
    parameters cell has changed. Raises UserError for a parameter from papermill that the notebook does not have.
    """
    check_parameters()
    given = {name: names[name] for name in DEFAULTS if name in names}
    if not attended():
        return Choice(given)
    from IPython.display import display

    earlier = names.get("chosen")
    if isinstance(earlier, Choice) and earlier.given == given:
        choice = earlier
    else:
        choice = Choice(given, waits=not isinstance(earlier, Choice))
    display(form(choice))
    return choice
