"""Things by name, put there by a decorator beside their definition: in this package and outside it alike."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from lop.utils.errors import UserError

T = TypeVar("T")

_registries: list[Registry] = []
_plugins: set[str] = set()  # those that were looked at


class Registry(dict[str, T], Generic[T]):
    """Name to thing; `register` is the decorator that fills it. kind: what the things are, for messages."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        _registries.append(self)

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator: `@register("adahessian")`; further names are aliases. Raises UserError for a name that is taken.

        The same definition again (a notebook cell that is run a second time) replaces the first.
        """

        def add(thing: T) -> T:
            for name in names:
                self.add(name, thing)
            return thing

        return add

    def add(self, name: str, thing: T) -> None:
        known = self.get(name)
        if known is not None and _origin(known) != _origin(thing):
            where = _origin(known)[0]
            raise UserError(f"{self.kind} {name!r} is taken (by {where}): choose another name")
        self[name] = thing


def _origin(thing: object) -> tuple[str, str]:
    """Where a class, a function or a record of one was defined."""
    source = getattr(thing, "source", thing)
    return getattr(source, "__module__", ""), getattr(source, "__qualname__", "")


def foreign_modules() -> set[str]:
    """Outside this package and torch, the modules that have registered something; `__main__` is a notebook's cells."""
    origins = {_origin(thing)[0] for registry in _registries for thing in registry.values()}
    return {origin for origin in origins if origin.split(".")[0] not in ("lop", "torch")}


def import_modules(package: str, paths: Iterable[str]) -> None:
    """Import every module of a package, so that what they define is registered."""
    for found in pkgutil.iter_modules(paths, f"{package}."):
        importlib.import_module(found.name)


def load_plugin(name: str) -> None:
    """Import a plugin, a file (`mine.py`) or a module (`mine.optimizers`), so that what it defines is registered.

    A file is imported once in a process, under the name of its stem. Raises UserError where it cannot be found, and
    where it raises; what registers nothing is said so, once.
    """
    is_file = name.endswith(".py")
    path = Path(name).expanduser()
    if is_file and not path.is_file():
        raise UserError(f"run.plugins: {name}: no such file; give the path of a .py file or the name of a module")
    module_name = path.stem if is_file else name
    loaded = sys.modules.get(module_name)
    before = sum(map(len, _registries))
    try:
        if not is_file:
            importlib.import_module(name)
        elif loaded is None or Path(getattr(loaded, "__file__", None) or "").resolve() != path.resolve():
            _import_file(module_name, path)
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"run.plugins: {name} cannot be imported ({reason})") from error
    if name not in _plugins:
        _plugins.add(name)
        if sum(map(len, _registries)) == before and not _has_registered(module_name):
            advice = 'put a decorator, e.g. @lop.optimizer("mine"), on what it defines'
            print(f"warning: run.plugins: {name} registers nothing; {advice}", file=sys.stderr)


def _has_registered(module: str) -> bool:
    """Before, when it was imported by somebody else."""
    origins = (_origin(thing)[0] for registry in _registries for thing in registry.values())
    return any(f"{origin}.".startswith(f"{module}.") for origin in origins)


def _import_file(module_name: str, path: Path) -> None:
    if module_name in sys.modules:
        raise UserError(f"run.plugins: {path}: a module called {module_name} is loaded already; rename the file")
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None:  # only where the suffix is not a Python file's
        raise UserError(f"run.plugins: {path} is no Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
