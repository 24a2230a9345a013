"""Settings that a study has chosen (`chosen.yaml`): what `optimizer: {name: sassha, settings: studies/x}` means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lop.utils.documents import read_document
from lop.utils.errors import UserError, shown
from lop.utils.shipped import PACKAGE

BEST = "best"  # of all studies here and beside the sources
FILE = "chosen.yaml"


def chosen_settings(where: str, benchmark: str, optimizer: str, algos: Sequence[str]) -> dict[str, Any]:
    """The entry of this optimizer with these interventions on this benchmark: its `optimizer` and `algos` sections.

    where: a study's folder, its chosen.yaml, or `best` for whatever study has it: those in the folder `studies` here
    come before those beside the sources, and of each the one that tried the most settings.
    Without an entry for these interventions that of the optimizer alone counts. Raises UserError where there is none.
    """
    nearest = [[entry for path in files for entry in _entries(path)] for files in _files(where)]
    for names in (list(algos), []):
        for entries in nearest:
            same = [entry for entry in entries if _is_of(entry, benchmark, optimizer, names)]
            if same:
                return max(same, key=lambda entry: entry.get("settings_tried", 0))
    known = [entry for entries in nearest for entry in entries]
    method = " + ".join([optimizer, *algos])
    there = sorted({f"{entry['optimizer']['name']} on {entry['benchmark']}" for entry in known})
    raise UserError(
        f"{where} has no settings of {method} on {benchmark}; it has {', '.join(there) or 'none'}",
        option="optimizer.settings",
        joint=": ",
    )


def _is_of(entry: dict[str, Any], benchmark: str, optimizer: str, algos: list[str]) -> bool:
    own = entry["benchmark"], entry["optimizer"]["name"], [algo["name"] for algo in entry["algos"]]
    return own == (benchmark, optimizer, algos)


def _files(where: str) -> list[list[Path]]:
    """The nearest first."""
    if where == BEST:
        folders = [Path("studies"), PACKAGE.parents[1] / "studies"]
        return [sorted(folder.glob(f"*/{FILE}")) for folder in folders]
    path = Path(where).expanduser()
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        problem = f"{path}: no such file; give the folder of a study's {FILE}, or best"
        raise UserError(problem, option="optimizer.settings", joint=": ")
    return [[path]]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    data = read_document(path, "chosen settings")
    for methods in data.values() if isinstance(data, dict) else [data]:
        for entry in methods.values() if isinstance(methods, dict) else [methods]:
            if not _is_entry(entry):
                raise UserError(f"{path}: not the settings that a study has chosen, {shown(entry)}")
            yield entry


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not {"benchmark", "optimizer", "algos"} <= set(entry):
        return False
    sections = [entry["optimizer"], *(entry["algos"] if isinstance(entry["algos"], list) else [None])]
    return all(isinstance(section, dict) and isinstance(section.get("name"), str) for section in sections)


def with_chosen(data: dict[str, Any], benchmark: str, default: str) -> dict[str, Any]:
    """A config's dict with `optimizer.settings` replaced by what it means; options beside it stay as they are given.

    default: the optimizer of a section without a name. Interventions of the entry bring their options, too.
    """
    section = data.get("optimizer")
    if not isinstance(section, dict) or "settings" not in section:
        return data
    own = {key: value for key, value in section.items() if key != "settings"}
    if not isinstance(section["settings"], str):
        problem = f"expected a study's folder, or best, got {shown(section['settings'])}"
        raise UserError(problem, option="optimizer.settings", joint=": ")
    given = [{"name": algo} if isinstance(algo, str) else algo for algo in data.get("algos") or []]
    names = [algo.get("name", "") for algo in given if isinstance(algo, dict)]
    plain = [name for name in names if name != "bp"]
    entry = chosen_settings(section["settings"], benchmark, own.get("name", default), plain)
    options = {algo["name"]: algo for algo in entry["algos"]}
    algos = [{**options.get(algo.get("name"), {}), **algo} if isinstance(algo, dict) else algo for algo in given]
    return {**data, "optimizer": {**entry["optimizer"], **own}, "algos": algos}
