"""The contract of a population: a stack of three equals three single runs."""

import copy
import math

import pytest
import torch
from stacked_members import (
    SEEDS,
    STACKED,
    assert_same_state,
    assert_stack_equals_singles,
    flat,
    make_learner,
    through_a_file,
    train,
)

from lop.algos import INTERVENTIONS
from lop.optimizers.multi_tensor import random_signs
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator


@pytest.mark.parametrize("algos", [[], ["l2_init", "cbp", "ema"]], ids=["plain", "with_three"])
@pytest.mark.parametrize("optimizer", sorted(STACKED))
def test_every_optimizer(optimizer, algos):
    """Alone; and with a penalty, with entries that are reset, and with averaged weights, all in the same run."""
    assert_stack_equals_singles(lambda seed: make_learner(seed, optimizer, algos))


@pytest.mark.parametrize("algo", sorted(name for name, one in INTERVENTIONS.items() if one.stackable))
def test_every_intervention(algo):
    """With an optimizer that has everything they meet: moments, curvature, several passes in a step, a decay."""
    assert_stack_equals_singles(lambda seed: make_learner(seed, "sassha", [algo]))


@pytest.mark.parametrize(
    ("net", "options", "optimizer"),
    [
        ("mlp", {"layer_norm": True}, "adam"),
        ("mlp", {"layer_norm": True}, "sophiag"),
        ("mlp", {"activation": "crelu"}, "adahessian"),
        ("mlp", {"activation": "crelu"}, "asam"),
        ("convnet", {}, "adam"),
        ("convnet", {}, "adahessian"),
        ("resnet18", {}, "asam"),
        ("resnet18", {}, "sophiag"),
        ("resnet18", {"residual_readers": "next"}, "adahessian"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_every_net(net, options, optimizer):
    make = lambda seed: make_learner(seed, optimizer, ["cbp"] if options else [], net, options)  # noqa: E731
    assert_stack_equals_singles(make, net=net, tasks=(0, 1))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "sophiah", "sassha", "asam"])
def test_each_member_is_clipped_by_its_own_norm(optimizer):
    assert_stack_equals_singles(lambda seed: make_learner(seed, optimizer, max_grad_norm=0.2), tasks=(0,))


def test_squared_errors():
    kinds = (StackedPopulation, Population)
    stacked, singles = (kind([make_learner(s, "adahessian", loss="mse") for s in SEEDS]) for kind in kinds)
    for step in range(5):
        batches = []
        for seed in SEEDS:
            generator = make_generator(seed, "regression", step)
            x = torch.randn(6, 12, generator=generator, dtype=torch.float64)
            batches.append((x, torch.randn(6, 4, generator=generator, dtype=torch.float64)))
        for result, single in zip(stacked.learn(batches), singles.learn(batches), strict=True):
            torch.testing.assert_close(result.loss, single.loss, rtol=1e-9, atol=1e-9)
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)


def test_probes_are_those_of_single_runs():
    generators = lambda: [make_generator(seed, "probes") for seed in SEEDS]  # noqa: E731
    shapes = [(5, 7), (3,), (2, 2, 3)]
    stacked = random_signs([torch.empty(3, *shape) for shape in shapes], generators())
    for i, generator in enumerate(generators()):
        single = random_signs([torch.empty(shape) for shape in shapes], generator)
        for rows, alone in zip(stacked, single, strict=True):
            assert torch.equal(rows[i], alone)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "asgd", "adahessian", "sophiag", "sassha", "sam"])
def test_a_state_goes_from_stack_to_single_runs_and_back(optimizer):
    """Saved in the middle of a stack, continued alone, saved, continued in a stack: as never interrupted."""
    make = lambda seed: make_learner(seed, optimizer, ["cbp", "l2_init"])  # noqa: E731

    def saved_from(population, tasks):
        train(population, tasks=tasks)
        return [through_a_file(learner.state_dict()) for learner in population.learners]

    def loaded(kind, states):
        learners = [make(seed + 10) for seed in SEEDS]  # other nets, other generators: nothing comes from here
        for learner, state in zip(learners, states, strict=True):
            learner.load_state_dict(state)
        return kind(learners)

    middle = saved_from(StackedPopulation([make(seed) for seed in SEEDS]), (0,))
    middle = saved_from(loaded(Population, middle), (1,))
    stacked = loaded(StackedPopulation, middle)
    train(stacked, tasks=(2,))
    singles = Population([make(seed) for seed in SEEDS])
    for learner in singles.learners:  # the seed of the optimizer's options is not part of its state
        learner.optimizer.defaults = stacked.learners[0].optimizer.defaults
    train(singles)
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        ours, theirs = learner.state_dict(), single.state_dict()
        for key in ("net", "optimizer"):
            for a, b in zip(flat(ours[key]), flat(theirs[key]), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "sassha", "sophiag", "asam"])
def test_a_member_that_diverges_disturbs_nobody(optimizer):
    def poison(step):
        if step == 3:
            with torch.no_grad():
                diverging.net.output_layer().weight.fill_(math.nan)

    make = lambda seed: make_learner(seed, optimizer, ["cbp", "l2"], max_grad_norm=0.5)  # noqa: E731
    stacked = StackedPopulation([make(seed) for seed in SEEDS])
    diverging = stacked.learners[1]
    rows = train(stacked, after=poison, tasks=(0, 2))
    singles = Population([make(seed) for seed in (0, 2)])
    train(singles, seeds=(0, 2), tasks=(0, 2))
    assert [len(block.learners) for block in stacked.blocks] == [3]
    assert rows[-1][1].loss.isnan()
    for learner, single in zip((stacked.learners[0], stacked.learners[2]), singles.learners, strict=True):
        assert_same_state(learner, single)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "sassha"])
def test_a_member_may_leave_start_anew_or_be_changed_between_two_steps(optimizer):
    def change(population, seeds):
        def after(step):
            learner = dict(zip(seeds, population.learners, strict=False)).get(1)
            if step == 2:  # a divergence that resets the net
                learner.restart(make_generator(1, "net", "reset"))
            if step == 5:
                population.learners[0].optimizer.fade(0.5)
            if step == 7:
                for own in population.learners:
                    own.optimizer.param_groups[0]["lr"] *= 0.5
            if step == 9:
                state = copy.deepcopy(population.learners[2].state_dict())
                population.learners[2].load_state_dict(state)

        return after

    stacked, singles = (kind([make_learner(s, optimizer) for s in SEEDS]) for kind in (StackedPopulation, Population))
    train(stacked, after=change(stacked, SEEDS), tasks=(0, 2))
    train(singles, after=change(singles, SEEDS), tasks=(0, 2))
    assert [[own.seed for own in block.learners] for block in stacked.blocks] == [[0, 2]]
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)
    gone = stacked.learners[0]
    before = copy.deepcopy(gone.state_dict())
    for population in (stacked, singles):
        population.remove(0)
        train(population, seeds=(1, 2), tasks=(3,))
    assert_same_state(stacked.learners[1], singles.learners[1])
    for a, b in zip(flat(before), flat(gone.state_dict()), strict=True):
        assert torch.equal(a, b)
    storages = {p.untyped_storage().nbytes() for p in gone.net.parameters()}
    assert storages == {p.nbytes for p in gone.net.parameters()}  # it does not hold the others' memory


def test_members_with_other_options_are_blocks_of_their_own():
    plain, other, third = {"amsgrad": True}, {"amsgrad": False}, {"decoupled_weight_decay": True}
    kinds = {0: plain, 1: plain, 2: other, 3: other, 4: third}
    make = lambda seed: make_learner(seed, "adam", ["ema"], weight_decay=0.1, **kinds[seed])  # noqa: E731
    stacked, singles = StackedPopulation([make(s) for s in kinds]), Population([make(s) for s in kinds])
    train(stacked, seeds=kinds, tasks=(0, 2))
    train(singles, seeds=kinds, tasks=(0, 2))
    assert [[own.seed for own in block.learners] for block in stacked.blocks] == [[0, 1], [2, 3]]
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)
