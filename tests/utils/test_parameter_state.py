"""What is done to the state of a parameter follows from its declaration."""

import copy
from typing import ClassVar

import pytest
import torch

from lop.utils.state import (
    MEAN,
    PARAMETERS,
    Factor,
    Fade,
    PerEntry,
    State,
    Value,
    Whole,
    fade_entries,
    per_member,
    renew_entries,
)


class Declared:
    state: ClassVar[State] = {
        "step": Value(),
        "average": PerEntry(fade=Fade.SCALES),
        "length": PerEntry("lr"),
        "square": PerEntry(MEAN, Fade.SCALES),
        "reference": PerEntry(PARAMETERS),
        "rows": Whole(),
        "factors": Factor(Fade.SCALES),
        "inverses": Factor(),
    }


def held():
    numbers = torch.arange(6.0).view(2, 3) + 1
    names = ("average", "length", "square", "reference")
    matrices = {"A": numbers.clone(), "B": numbers[0].clone()}
    parameter = {"step": torch.tensor(3.0), "rows": numbers.clone(), "factors": matrices}
    return parameter | {"inverses": copy.deepcopy(matrices), **{name: numbers.clone() for name in names}}


def test_reset_entries_start_where_their_kind_says_and_nothing_else_changes():
    state, before = held(), held()
    mask = torch.tensor([[True], [False]])
    renew_entries(parameter := torch.full((2, 3), 9.0), state, Declared.state, mask, {"lr": 0.25})
    assert state["average"].tolist() == [[0, 0, 0], [4, 5, 6]]
    assert state["length"].tolist() == [[0.25] * 3, [4, 5, 6]]
    assert state["square"].tolist() == [[3.5] * 3, [4, 5, 6]]
    assert state["reference"].tolist() == [[9, 9, 9], [4, 5, 6]]
    for name in ("step", "rows"):
        assert torch.equal(state[name], before[name])
    renew_entries(parameter, absent := {"step": 1, "average": None}, Declared.state, mask, {"lr": 0.25})
    assert absent == {"step": 1, "average": None}


def test_what_fades_is_scaled_and_nothing_else():
    state, before = held(), held()
    fade_entries(state, Declared.state, 0.5)
    for name in ("average", "square"):
        assert torch.equal(state[name], before[name] / 2)
    assert all(torch.equal(state["factors"][key], before["factors"][key] / 2) for key in "AB")
    for name in ("step", "length", "rows", "reference"):
        assert torch.equal(state[name], before[name])
    assert all(torch.equal(state["inverses"][key], before["inverses"][key]) for key in "AB")


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_where_something_restarts_all_does(factor):
    state = held()
    fade_entries(state, {**Declared.state, "factors": Factor(Fade.RESTARTS)}, factor)
    assert state == {}


def test_each_member_of_a_stack_has_its_own_of_all_tensors_but_numbers():
    assert per_member(Declared.state) == ("average", "length", "square", "reference", "rows")
