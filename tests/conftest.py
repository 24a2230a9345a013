import gc

import plugged
import pytest
import torch

from lop.utils.errors import UserError


def pytest_addoption(parser):
    parser.addoption(
        "--plugin",
        action="append",
        default=[],
        metavar="MINE.PY",
        help="run the contract tests, and no others, over what this file or module registers; may be given again",
    )


def pytest_configure(config):
    for plugin in config.getoption("plugin"):
        try:
            plugged.load(plugin)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None
    if config.getoption("plugin") and not plugged.names:
        raise pytest.UsageError(f"{', '.join(config.getoption('plugin'))}: nothing is registered there")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("plugin"):
        return
    chosen = [item for item in items if _about_a_plugin(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector does not look through it again and again."""
    gc.collect()
    gc.freeze()


def _about_a_plugin(item) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(isinstance(value, str) and value in plugged.names for value in parameters)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """A run forces each of its files onto the disk, for the day the power fails, which no test makes it do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: threads only cost, and on a shared machine they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
