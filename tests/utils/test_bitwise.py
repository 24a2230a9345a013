"""The comparison of states that other tests rely on: it sees what a printed tensor leaves out."""

import pytest
import torch
from bitwise import same


def state(**other) -> dict:
    return {"count": 1, "parts": [torch.arange(5000.0), None], "nan": float("nan"), **other}


def test_equal_states_are_the_same():
    assert same(state(), state())
    assert same({"x": torch.tensor([float("nan")])}, {"x": torch.tensor([float("nan")])})


changed = torch.arange(5000.0)
changed[2500] += 1  # in the middle, where str() prints dots


@pytest.mark.parametrize(
    "other",
    [
        {"parts": [changed, None]},
        {"parts": [torch.arange(5000.0, dtype=torch.float64), None]},
        {"parts": [torch.arange(5000.0).view(50, 100), None]},
        {"parts": [torch.arange(5000.0)]},
        {"count": 1.0},
        {"count": True},
        {"more": 0},
        {"parts": [torch.tensor(0.0), None]},
    ],
)
def test_any_difference_is_seen(other):
    assert not same(state(), state(**other))
    assert not same(state(**other), state())
