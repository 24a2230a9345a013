import micro
import pytest
import torch
from faulty_runs import config

from lop.runner import run


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return micro.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    torch.set_num_threads(1)
    return run(config(data_dir, tmp_path_factory.mktemp("whole")), summaries=False)
