"""One meaning of reset: after a restart everything is as newly built, and what is known of a unit ends with it."""

import copy
from pathlib import Path

import pytest
import torch
from bitwise import same
from test_interventions_contract import make, train

import lop.algos
from lop.algos import INTERVENTIONS, Intervention
from lop.algos.units import UnitReset, replace_units
from lop.nets.init import fresh_parameters
from lop.utils.seeding import make_generator

GENERATORS = ("generator", "chances")


def gathered(intervention: Intervention) -> dict:
    return {k: v for k, v in copy.deepcopy(intervention.state_dict()).items() if k not in GENERATORS}


@pytest.mark.parametrize("name", sorted(INTERVENTIONS))
def test_a_restarted_learner_is_a_new_one(name, build, small_task):
    learner, _ = build(make(name), optimizer="adahessian", lr=0.01, lazy_hessian=5)
    train(learner, lambda k: small_task(index=k), stop=15)
    before = {k: v.clone() for k, v in learner.net.state_dict().items()}
    draws = [v for k, v in learner.interventions[0].state_dict().items() if k in GENERATORS]
    draws = [copy.deepcopy(v["state"]) for v in draws]
    learner.restart(make_generator(7, "net"))
    assert not any(torch.equal(v, learner.net.state_dict()[k]) for k, v in before.items() if "weight" in k)

    fresh, _ = build(make(name), optimizer="adahessian", lr=0.01, lazy_hessian=5)
    fresh.net.load_state_dict(learner.net.state_dict())
    fresh.interventions[0].restart()
    assert same(gathered(learner.interventions[0]), gathered(fresh.interventions[0]))
    now = [v["state"] for k, v in learner.interventions[0].state_dict().items() if k in GENERATORS]
    assert all(torch.equal(a, b) for a, b in zip(draws, now, strict=True))  # other numbers than the first time

    for k in GENERATORS:
        if hasattr(fresh.interventions[0], f"_{k}"):
            getattr(fresh.interventions[0], f"_{k}").set_state(getattr(learner.interventions[0], f"_{k}").get_state())
    fresh.optimizer.generator.set_state(learner.optimizer.generator.get_state())
    for each in (learner, fresh):
        train(each, lambda k: small_task(index=k), stop=15)
    for p, q in zip(learner.net.parameters(), fresh.net.parameters(), strict=True):
        assert torch.equal(p, q)


class Replacing(Intervention):
    """Gives some units fresh weights when it is told to."""

    def act(self, mask: torch.Tensor) -> None:
        resets = []
        for layer in self.host.hidden_layers:
            units = mask[: layer.units].nonzero().squeeze(1)
            rows = fresh_parameters(layer.incoming, make_generator(3, "rows"), units=len(units))
            resets.append(UnitReset(layer, units, rows))
        replace_units(self, resets)


def along_units(state, units: list[int]) -> list[torch.Tensor]:
    """All tensors of a state that have an entry per unit of either layer (8 and 7, or both), at these units of each."""
    found = []
    for value in state.values() if isinstance(state, dict) else state:
        if isinstance(value, dict | list):
            found += along_units(value, units)
        elif torch.is_tensor(value) and value.dim() and value.shape[0] in (7, 8):
            found.append(value[units])
        elif torch.is_tensor(value) and value.dim() and value.shape[0] == 15:
            found.append(value[[*units, *(8 + u for u in units)]])
        elif torch.is_tensor(value) and value.dim() == 2 and value.shape[1] == 15:
            found.append(value[:, [*units, *(8 + u for u in units)]])
    return found


PER_UNIT = ("cbp", "snr")
IDLE = {
    "cbp": {"replacement_rate": 0.0},
    "snr": {"threshold": "lifetime", "max_time": 1000, "refresh": 1000},
    "redo": {"period": 1000},
}


@pytest.mark.parametrize("name", ["cbp", "snr", "redo"])
def test_it_hears_of_units_that_others_replaced(name, build, small_task):
    """What is known of these units is what is known of new ones; of the others, what was known before."""
    method, replacing = INTERVENTIONS[name](**IDLE[name]), Replacing()
    learner, _ = build(method, replacing)
    train(learner, lambda k: small_task(index=k), stop=15)
    before = gathered(method)
    gone = torch.zeros(8, dtype=torch.bool)
    gone[[1, 4]] = True
    replacing.act(gone)
    after = gathered(method)
    others = [0, 2, 3, 5, 6]
    for old, new in zip(along_units(before, others), along_units(after, others), strict=True):
        assert torch.equal(old, new)
    assert bool(along_units(before, [1, 4])) == (name in PER_UNIT)
    if name == "cbp":
        assert not after["statistics"]["running"][:, [1, 4, 9, 12]].any()
        assert before["statistics"]["running"][:, [1, 4, 9, 12]].any()
        assert (after["births"][[1, 4, 9, 12]] == 15).all()
    if name == "snr":
        assert not after["silence"]["age"][[1, 4, 9, 12]].any()
        assert not after["silence"]["histogram"][[1, 4, 9, 12]].any()
        assert before["silence"]["histogram"][[1, 4, 9, 12]].any()


def test_cbp_replaces_no_unit_that_another_has_just_replaced(build, small_task):
    """Its count of mature units, which it keeps without looking, follows."""
    method, replacing = INTERVENTIONS["cbp"](replacement_rate=1.0, maturity_threshold=10), Replacing()
    learner, _ = build(method, replacing)
    x, y = small_task().batches()[0]
    for _ in range(9):
        learner.learn(x, y)
    replacing.act(torch.arange(8) == 2)
    kept = learner.hidden_layers[0].incoming.weight[2].detach().clone()
    for step in range(10, 21):
        learner.learn(x, y)
        expected = 0 if step < 11 else 13 if step < 20 else 15  # all but unit 2 of each layer, then that, too
        assert method.replaced == expected
        mature = [int((method.births(layer) < method.steps - 10).sum()) for layer in learner.hidden_layers]
        assert [count.mature for count in method._counts] == mature
    assert not torch.equal(learner.hidden_layers[0].incoming.weight[2], kept)


def test_cbp_hears_of_silent_units_reset_by_snr(build, small_task):
    cbp = INTERVENTIONS["cbp"](replacement_rate=0.0)
    snr = INTERVENTIONS["snr"](threshold="lifetime", max_time=3, refresh=1000)
    learner, _ = build(cbp, snr)
    layer = learner.hidden_layers[0]
    with torch.no_grad():
        layer.incoming.bias[5] = -1e3  # never fires
    x, y = small_task().batches()[0]
    for _ in range(4):
        learner.learn(x, y)
    assert cbp.births(layer).tolist() == [0, 0, 0, 0, 0, 4, 0, 0]


def test_network_reset_makes_the_others_pristine_and_draws_another_net_each_time(build, small_task):
    names = ("cbp", "snr", "l2_init", "ewc", "network_reset")
    learner, task = build(*(make(name) for name in names), optimizer="adam", lr=0.01)
    nets = []
    for index in range(2):
        task = small_task(index=index)
        learner.start_task(task)
        for x, y in task.batches():
            learner.learn(x, y)
        learner.end_task(task)
        nets.append(learner.net.head.weight.detach().clone())
        cbp, snr, l2_init, ewc, _ = learner.interventions
        assert cbp.steps == snr.steps == learner.optimizer.steps == 0
        assert not any(cbp.births(layer).any() for layer in learner.hidden_layers)
        assert not gathered(ewc)["anchor"]
        assert all(
            torch.equal(a, p)
            for a, p in zip(gathered(l2_init)["initial"].values(), learner.net.parameters(), strict=True)
        )
    assert not torch.equal(*nets)


def test_interventions_know_their_host_only():
    """Not even for type checking do they import the room that holds them."""
    for path in Path(lop.algos.__file__).parent.glob("*.py"):
        assert "lop.training" not in path.read_text(), path
