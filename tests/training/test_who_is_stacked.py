"""Which learners are trained as one, and which one after the other."""

import copy
import math

import torch
from stacked_members import (
    SEEDS,
    STACKED,
    assert_stack_equals_singles,
    make_learner,
    train,
)

from lop.algos import INTERVENTIONS, Intervention
from lop.nets import NETS
from lop.nets.stack import Stack
from lop.optimizers import get_optimizer, list_optimizers
from lop.training.looped import Population
from lop.training.population import make_population
from lop.training.stacked import StackedPopulation


def test_who_is_stackable():
    found = {name for name in list_optimizers() if get_optimizer_or_none(name)}
    assert found - {"mine"} == {*STACKED, "sophia"}  # another test's own may be there, too


def get_optimizer_or_none(name):
    return get_optimizer(name, NETS["mlp"]((4,), 2, hidden=[])).stackable


def test_upgd_by_rows():
    assert_stack_equals_singles(lambda seed: make_learner(seed, "upgd", local=True), tasks=(0,))


def test_who_watches_its_own_forward_passes_is_trained_alone():
    assert not INTERVENTIONS["plasticity_injection"].stackable
    stacked = StackedPopulation([make_learner(seed, algos=["plasticity_injection"]) for seed in SEEDS])
    train(stacked, tasks=(0, 1))
    assert not stacked.blocks


def test_sam_is_as_stackable_as_its_base():
    net = NETS["mlp"]((4,), 2, hidden=[])
    assert get_optimizer("sam", net, base="adam").stackable
    assert not get_optimizer("sam", net, base="shampoo").stackable


class OwnForward(NETS["mlp"]):
    """An MLP as a user may write it."""

    def forward(self, x):
        return self.head(self.body(x))


def test_the_choice(monkeypatch):
    rates = [0.1] * 6 + [0.2] * 2
    mixed = make_population([make_learner(s, lr=lr) for s, lr in enumerate(rates)])
    train(mixed, seeds=range(8), tasks=(0,))
    assert [[own.seed for own in block.learners] for block in mixed.blocks] == [list(range(8))]
    many = range(8)
    convolves = [make_learner(s, net="convnet") for s in many]
    wide = [make_learner(s, net_options={"hidden": [1000, 1000]}) for s in (0, 1)]
    for others in ([], [make_learner(0)], [make_learner(s, "kfac") for s in many], convolves, wide):
        assert type(make_population(others)) is Population
    monkeypatch.setitem(NETS, "mlp", OwnForward)
    assert type(make_population([make_learner(s) for s in range(5)])) is Population
    assert type(make_population([make_learner(s) for s in range(6)])) is StackedPopulation


def test_who_was_ruined_by_the_first_step_is_kept():
    class Ruin(Intervention):
        def after_step(self, features):
            self.host.net.head.weight.data.fill_(math.nan)

    learners = [make_learner(s, algos=[Ruin()] if s == 1 else []) for s in SEEDS]
    train(StackedPopulation(learners))
    alone = make_learner(1, algos=[Ruin()])
    train(Population([alone]), seeds=[1])
    assert [learner.ruined_by_first_update for learner in [*learners, alone]] == [s == 1 for s in [*SEEDS, 1]]
    train(Population([later := make_learner(0)]), seeds=[0])
    later.net.head.weight.data.fill_(math.nan)  # what happens afterwards is data
    train(Population([later]), seeds=[0])
    assert not later.ruined_by_first_update


def test_a_nets_views_are_its_stacks_memory():
    nets = [make_learner(s, net="resnet18").net for s in SEEDS]
    x = torch.randn(3, 5, 3, 8, 8, dtype=torch.float64)
    expected = torch.stack([copy.deepcopy(net)(rows) for net, rows in zip(nets, x, strict=True)])
    kept = [dict(net.named_parameters()) for net in nets]
    stack = Stack(nets)
    torch.testing.assert_close(stack(x), expected, rtol=1e-12, atol=1e-12)
    assert all(p is kept[i][name] for i, net in enumerate(nets) for name, p in net.named_parameters())
    assert nets[1].stem_norm.num_batches_tracked == 1  # the stack's statistics are the members'
    with torch.no_grad():
        nets[1].head.weight.zero_()
        nets[1].head.bias.fill_(7.0)
    outputs = stack(x)
    assert torch.equal(outputs[1], torch.full_like(outputs[1], 7.0))
    assert not torch.equal(outputs[0], outputs[1])
