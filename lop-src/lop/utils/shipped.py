"""The project's notebooks, wherever they came with the package: inside it when installed, beside it in a checkout."""

from __future__ import annotations

import shutil
from pathlib import Path

from lop.utils.errors import UserError
from lop.utils.files import disk_errors

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_root() -> Path:
    """The folder that holds run-expr.ipynb and notebooks/. Raises UserError where the notebooks were left out."""
    for root in (PACKAGE / "shipped", PACKAGE.parents[1]):
        if (root / "run-expr.ipynb").exists():
            return root
    raise UserError("this installation came without notebooks; take them from the repository")


def shipped_notebooks() -> list[Path]:
    """All of them, below `shipped_root`, the main one first."""
    root = shipped_root()
    return [root / "run-expr.ipynb", *sorted((root / "notebooks").glob("*.ipynb"))]


def copy_notebooks(target: str | Path) -> list[Path]:
    """Copies of all notebooks in a folder, laid out as in the repository.

    What is there already is left alone: raises UserError, and copies nothing, where a file of that name differs.
    """
    folder, root = Path(target).expanduser(), shipped_root()
    pairs = [(path, folder / path.relative_to(root)) for path in shipped_notebooks()]
    for path, copy in pairs:
        if copy.exists() and copy.read_bytes() != path.read_bytes():
            raise UserError(f"{copy}: is there already and differs; name another folder")
    for path, copy in pairs:
        with disk_errors(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [copy for _, copy in pairs]
