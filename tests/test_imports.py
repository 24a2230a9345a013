"""Who may import whom, top to bottom only: the import layers of the project, read from the source."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "lop-src"

# From the bottom. A module or package of `lop` may import from its own layer and from those below it.
LAYERS = [
    {"utils"},
    {"config", "runs", "chosen"},  # import no experiment
    {"nets", "metrics", "data"},
    {"optimizers", "algos"},
    {"training"},
    {"envs"},
    {
        "permuted_mnist",
        "incremental_cifar",
        "imagenet",
        "slowly_changing_regression",
        "random_labels",
        "label_permuted",
        "growing_data",
        "five_plus_one",
        "rl",
    },
    {"plan"},
    {"experiment"},
    {"capacity", "analysis", "pace"},
    {"runner", "monitor"},
    {"executors", "lightning"},
    {"notebook", "sweep", "study"},
    {"cli"},
    {"main"},
]
VIEWS = {"viz"}  # figures read tables: they see no learner, and only the top layers may draw
VIEWS_MAY_IMPORT = LAYERS[0] | LAYERS[1] | {"metrics"} | VIEWS


def height(unit: str) -> int:
    for level, layer in enumerate(LAYERS):
        if unit in layer:
            return level
    raise AssertionError(f"lop.{unit} has no place in tests/test_imports.py: add it to its layer")


def may_import(importer: str, imported: str) -> bool:
    if "" in (importer, imported):  # the package's own __init__: it comes before all rooms, and opens onto all
        return False
    if importer in VIEWS:
        return imported in VIEWS_MAY_IMPORT
    if imported in VIEWS:
        return height(importer) >= height("runner")
    if imported == "main":
        return False
    return height(imported) <= height(importer)


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def imported_units(source: str) -> set[str]:
    """First names below `lop` of everything a source imports, at any depth; `main` for the command line.

    What is imported for annotations alone counts, too: who names another room's types knows that room. So does what is
    imported by its name in a string. The name of the package itself, its door, is "".
    """
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full: from lop.utils.errors import ..."
            below = [f"lop.{alias.name}" for alias in node.names] if node.module == "lop" else [node.module]
            names += below
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            names += [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
    units = {name.split(".")[1] if "." in name else "" for name in names if f"{name}.".startswith("lop.")}
    return units | ({"main"} & set(names))


def unit_of(path: Path) -> str:
    """That of the folder below `lop` that a file lies in, whatever the file is for."""
    first = path.relative_to(SOURCE).parts[-1] if path.parent == SOURCE else path.relative_to(SOURCE / "lop").parts[0]
    return first.removesuffix(".py").replace("__init__", "")


def test_no_layer_reaches_upwards():
    sources = sorted(SOURCE.rglob("*.py"))
    assert len(sources) > 30
    wrong = [
        f"{path.relative_to(ROOT)} imports lop.{imported}"
        for path in sources
        for imported in sorted(imported_units(path.read_text(encoding="utf-8")))
        if not may_import(unit_of(path), imported)
    ]
    assert wrong == []


def test_no_two_rooms_hold_each_other():
    """Not those of one layer either."""
    graph: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        unit = unit_of(path)
        graph.setdefault(unit, set()).update(imported_units(path.read_text(encoding="utf-8")) - {unit})
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)  # raises CycleError


@pytest.mark.parametrize(
    ("importer", "source", "allowed"),
    [
        ("optimizers", "from lop.nets.base import Net", True),
        ("optimizers", "def f():\n    from lop.training.learner import Learner", False),
        ("nets", "import lop.optimizers.base", False),
        ("runs", "from lop import runner", False),
        ("viz", "from lop.training.learner import Learner", False),
        ("training", "from lop import viz", False),
        ("rl", "from lop.runs import load", True),
        ("permuted_mnist", "from lop.runner import run", False),
        ("run", "import main", False),
        ("main", "from lop.runner import run", True),
        ("algos", "if TYPE_CHECKING:\n    from lop.training.learner import Learner", False),
        ("rl", "if __name__ == '__main__':\n    from lop.cli import main", False),
        ("config", "import lop", False),
        ("nets", "importlib.import_module('lop.optimizers')", False),
    ],
)
def test_the_check_sees_what_it_should(importer, source, allowed):
    (imported,) = imported_units(source)
    assert may_import(importer, imported) is allowed
