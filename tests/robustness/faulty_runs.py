"""Short runs to which something happens."""

import micro
import pytest

from lop.runner import run
from lop.utils.errors import UserError


def config(data_dir, folder, benchmark="permuted_digits", **overrides):
    overrides = {"run.checkpoint_every": 1, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return micro.micro_config(benchmark, data_dir, folder, optimizer="sassha", algos=["ema"], overrides=overrides)


def refused(configuration) -> str:
    with pytest.raises(UserError) as error:
        run(configuration, summaries=False)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def check_nothing_lost(configuration, whole) -> None:
    """The last checkpoint is good, and the same command finishes the run as if nothing had happened."""
    again = run(configuration, summaries=False)
    assert again.resumed
    assert again.status == "finished"
    assert micro.differences(whole.folder, again.folder) == []
