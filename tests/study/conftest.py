"""Studies in which nothing is trained and no step is timed."""

import copy
from pathlib import Path

import pandas as pd
import pytest
from study_runs import GIVEN

COSTS = {"adam": 2.0}  # of a step; of the others 1


@pytest.fixture
def given(tmp_path: Path) -> dict:
    """A study's file as a dict, to be changed."""
    return {**copy.deepcopy(GIVEN), "results_dir": str(tmp_path / "results")}


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    def step_seconds(configs, seconds):
        return pd.Series({name: COSTS.get(config.optimizer.name, 1.0) for name, config in configs.items()})

    monkeypatch.setattr("lop.study.costs.step_seconds", step_seconds)
