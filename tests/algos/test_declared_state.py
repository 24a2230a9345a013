"""What is made, saved, loaded and renewed of an intervention follows from its declaration alone."""

import io
from typing import ClassVar

import torch

from lop.algos import Intervention
from lop.utils.seeding import make_generator
from lop.utils.state import (
    FEATURES,
    NOTHING,
    PARAMETERS,
    UNITS,
    Generator,
    Part,
    PerEntry,
    PerUnit,
    State,
    Value,
    Whole,
    start_state,
)


class Kept:
    state: ClassVar[State] = {"count": Value(0), "sums": PerUnit(0.5, (2, FEATURES))}

    def __init__(self, units):
        self.units = units
        start_state(self)


class Declaring(Intervention):
    """It has no method but `attach`."""

    state: ClassVar[State] = {
        "steps": Value([0]),
        "_shadow": PerEntry(PARAMETERS),
        "_slow": PerEntry(1.5),
        "_anchor": PerEntry(NOTHING),
        "_births": PerUnit("birth", (UNITS, "width"), dtype=torch.int64),
        "_all": Whole({}),
        "_draws": Generator(),
        "parts": Part(),
        "base": Value(),
    }
    birth, width = 7, 3

    def attach(self, host):
        super().attach(host)
        self._draws = host.make_generator("declaring")
        self.parts = [Kept(self.units), Kept(self.units)]
        self.base = 0.1


def change(own):
    """Everything that is declared, to something else."""
    own.steps.append(4)
    for part in own.parts:
        part.count, part.sums = 7, torch.rand_like(part.sums, generator=own._draws)
    for entries in (own._shadow, own._slow):
        for value in entries.values():
            value.add_(torch.rand_like(value, generator=own._draws))
    own._anchor = {name: p.detach() + 1 for name, p in own.parameters.items()}
    own._births.copy_(torch.arange(own._births.numel()).view_as(own._births) + 100)
    own._all = {"rows": [torch.rand(2, generator=own._draws)]}
    own.base = 0.2


def test_a_restart_makes_everything_but_generators_and_what_is_kept(build):
    learner, _ = build(own := Declaring())
    change(own)
    state = own._draws.get_state()
    learner.restart(make_generator(5, "another net"))
    assert own.steps == [0]
    assert own.base == 0.2
    assert own._anchor == own._all == {}
    assert list(own._shadow) == list(own._slow) == [name for name, _ in learner.net.named_parameters()]
    for name, p in learner.net.named_parameters():
        assert torch.equal(own._shadow[name], p)
        assert own._shadow[name].data_ptr() != p.data_ptr()
        assert torch.equal(own._slow[name], torch.full_like(p, 1.5))
    assert own._births.dtype == torch.int64
    assert torch.equal(own._births, torch.full((15, 3), 7))
    assert all(part.count == 0 and torch.equal(part.sums, torch.full((2, 15), 0.5)) for part in own.parts)
    assert torch.equal(own._draws.get_state(), state)


def test_units_that_others_replaced_begin_anew_and_only_they(build):
    for expansion, options in ((1, {}), (2, {"activation": "crelu"})):
        learner, _ = build(own := Declaring(), net_options=options)
        change(own)
        births, sums = own._births.clone(), own.parts[1].sums.clone()
        first, second = learner.hidden_layers
        mask = torch.tensor([False, True, False, False, True, False, False])
        own.on_units_replaced(second, mask)
        births[[first.units + 1, first.units + 4]] = 7
        places = [first.units * expansion + part * second.units + unit for part in range(expansion) for unit in (1, 4)]
        sums[:, places] = 0.5
        assert torch.equal(own._births, births)
        assert torch.equal(own.parts[1].sums, sums)
        assert own.steps == [0, 4]


def test_a_declaration_is_all_that_saving_and_loading_need(build):
    build(one := Declaring())
    change(one)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    expected = torch.rand(5, generator=one._draws)
    file.seek(0)
    build(other := Declaring())
    saved = torch.load(file, weights_only=True)
    assert sorted(saved) == sorted(name.lstrip("_") for name in Declaring.state)
    other.load_state_dict(saved)
    assert (other.steps, other.parts[0].count, other.parts[1].count, other.base) == ([0, 4], 7, 7, 0.2)
    assert torch.equal(other.parts[1].sums, one.parts[1].sums)
    assert torch.equal(other._births, one._births)
    assert torch.equal(other._all["rows"][0], one._all["rows"][0])
    for mine, theirs in ((other._shadow, one._shadow), (other._slow, one._slow), (other._anchor, one._anchor)):
        assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    assert torch.equal(torch.rand(5, generator=other._draws), expected)
    other._all["rows"][0].zero_()
    other.steps.append(5)
    assert saved["steps"] == [0, 4]  # what was loaded is no part of what is learned on
    assert torch.equal(saved["all"]["rows"][0], one._all["rows"][0])
