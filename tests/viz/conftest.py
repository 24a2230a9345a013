"""Small tables of runs with known values, in the columns of `lop.runs.load`."""

import pandas as pd
import pytest
from made_tables import make_layers, make_online, make_spectra, make_tasks


@pytest.fixture
def tasks() -> pd.DataFrame:
    return make_tasks()


@pytest.fixture
def regression_tasks() -> pd.DataFrame:
    return make_tasks(regression=True)


@pytest.fixture
def layers() -> pd.DataFrame:
    return make_layers()


@pytest.fixture
def online() -> pd.DataFrame:
    return make_online()


@pytest.fixture
def spectra() -> pd.DataFrame:
    return make_spectra()
