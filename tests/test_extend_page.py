"""The cells of docs/extend-in-a-notebook.md, in their order."""

import re
from pathlib import Path

import pytest

from lop.algos import INTERVENTIONS
from lop.metrics import METRICS
from lop.optimizers import OPTIMIZERS
from lop.runs import load
from lop.training.benchmark import BENCHMARKS

PAGE = Path(__file__).parents[1] / "docs" / "extend-in-a-notebook.md"
ADDED = {"signum": OPTIMIZERS, "unit_norm": INTERVENTIONS, "weight_spread": METRICS, "sines": BENCHMARKS}


@pytest.fixture
def registries():
    yield
    for name, registry in ADDED.items():
        registry.pop(name, None)


@pytest.mark.usefixtures("registries")
def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *values, **options: shown.extend(values))
    monkeypatch.chdir(tmp_path)
    cells = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(cells) == 5
    names = {"__name__": "__main__"}  # as in a notebook
    for cell in cells:
        exec(cell, names)
    for name, registry in ADDED.items():
        assert name in registry
    results = load(tmp_path / "results" / "mine")
    assert set(results.tasks["label"]) == {"signum + unit_norm", "sgd"}
    assert results.tasks.groupby("label")["seed"].nunique().to_dict() == {"signum + unit_norm": 3, "sgd": 3}
    assert results.tasks["weight_spread_after"].gt(0).all()
    assert results.tasks["online_accuracy"].mean() > 0.6  # the tasks can be learned
    assert sum(hasattr(value, "savefig") for value in shown) == 2
    (said,) = [value.data for value in shown if "What came out" in getattr(value, "data", "")]
    assert "6 tasks, 3 seeds." in said
