import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "robustness"))  # micro

import micro
import pytest


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return micro.write_data(tmp_path_factory.mktemp("data"))
