"""What is saved and loaded follows from the declaration alone."""

import io
from typing import ClassVar

import torch

from lop.algos import Intervention
from lop.algos.state import Kind, State


class Part:
    state: ClassVar[State] = {"count": Kind.VALUE, "sums": Kind.TENSORS}

    def __init__(self):
        self.count, self.sums = 0, torch.zeros(3)


class Declaring(Intervention):
    state: ClassVar[State] = {
        "steps": Kind.VALUE,
        "_kept": Kind.TENSORS,
        "_draws": Kind.GENERATOR,
        "parts": Kind.NESTED,
    }

    def attach(self, host):
        super().attach(host)
        self._draws = host.make_generator("declaring")

    def restart(self):
        self.steps, self._kept, self.parts = [0], {"rows": [torch.zeros(2)]}, [Part(), Part()]


def test_a_declaration_is_all_that_saving_and_loading_need(build):
    build(one := Declaring())
    one.steps.append(4)
    one._kept["rows"][0] += torch.rand(2, generator=one._draws)
    one.parts[1].count, one.parts[1].sums = 7, torch.arange(3.0)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    expected = one._kept["rows"][0].clone(), torch.rand(5, generator=one._draws)
    file.seek(0)
    build(other := Declaring())
    saved = torch.load(file, weights_only=True)
    assert sorted(saved) == ["draws", "kept", "parts", "steps"]
    other.load_state_dict(saved)
    assert (other.steps, other.parts[0].count, other.parts[1].count) == ([0, 4], 0, 7)
    assert other.parts[1].sums.tolist() == [0, 1, 2]
    assert torch.equal(other._kept["rows"][0], expected[0])
    assert torch.equal(torch.rand(5, generator=other._draws), expected[1])
    other._kept["rows"][0].zero_()
    other.steps.append(5)
    assert saved["steps"] == [0, 4]  # what was loaded is no part of what is learned on
    assert torch.equal(saved["kept"]["rows"][0], expected[0])
