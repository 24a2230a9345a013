import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: threads only cost, and on a shared machine they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
