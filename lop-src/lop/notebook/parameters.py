"""Parameters that papermill gives to a notebook."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence

from lop.utils.errors import UserError, near_matches

_INJECTED = "# Parameters"  # the line with which papermill begins the cell that it adds


def check_parameters(cells: Sequence[str] | None = None) -> None:
    """Raises UserError for a parameter that was given to this notebook by papermill, and that it does not have.

    papermill runs `-p optimiser adam` with no more than a line in its log: the name becomes a variable that nobody
    reads. The notebook's own parameters are what is assigned before papermill's cell.

    cells: the sources run so far; by default those of the notebook that calls this. Without papermill nothing happens.
    """
    if cells is None:
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        cells = shell.user_ns.get("In", ()) if shell is not None else ()
    injected = [i for i, cell in enumerate(cells) if cell.split("\n", 1)[0].strip() == _INJECTED]
    if not injected:
        return
    known = {name for cell in cells[: injected[-1]] for name in _assigned(cell)}
    for name in _assigned(cells[injected[-1]]):
        if name not in known:
            raise UserError(f"the notebook has no such parameter; {near_matches(name, known)}", option=name, joint=": ")


def _assigned(cell: str) -> list[str]:
    """The names that a cell assigns to, outside functions and blocks."""
    try:
        statements = ast.parse(cell).body
    except SyntaxError:
        return []
    targets = [target for s in statements if isinstance(s, ast.Assign) for target in s.targets]
    targets += [s.target for s in statements if isinstance(s, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
