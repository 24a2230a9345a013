"""What is a lack of memory, and what is not."""

import pytest
import torch

from lop.utils.errors import UserError
from lop.utils.memory import memory_errors


@pytest.mark.parametrize(
    "build",
    [
        lambda: torch.empty(2**50),
        lambda: torch.empty(2**61),
        lambda: torch.nn.Linear(2**31, 2**31),
        lambda: bytearray(2**60),
        lambda: [0] * 2**60,
    ],
)
def test_real_allocations_that_fail(build):
    with pytest.raises(UserError, match=r"^out of memory .*: buy less$"), memory_errors("buy less"):
        build()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cannot allocate a number to the overflow class: not enough memory cells"),
        torch.linalg.LinAlgError("out of memory"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, memory_errors("buy less"):
        raise error
    assert raised.value is error
