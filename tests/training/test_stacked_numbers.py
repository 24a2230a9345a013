"""Members whose optimizers have numbers, recent resets, or an update of their own."""

import pytest
import torch
from stacked_members import SEEDS, assert_same_state, assert_stack_equals_singles, make_learner, train

from lop.nets import NETS
from lop.optimizers import get_optimizer
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator

NUMBERS = {
    "sgd": {"lr": [0.05, 0.02, 0.02], "momentum": [0.9, 0.5, 0.0], "weight_decay": [0.0, 0.1, 0.1]},
    "adam": {
        "lr": [0.003, 0.01, 0.003],
        "betas": [(0.9, 0.99), (0.8, 0.9), (0.9, 0.99)],
        "max_grad_norm": [0.1, None, 0.2],
    },
    "asgd": {"lr": [0.01, 0.02, 0.01], "lambd": [0.1, 0.1, 0.1]},
    "adahessian": {
        "lr": [0.02, 0.01, 0.02],
        "eps": [1e-4, 1e-2, 1e-4],
        "betas": [(0.9, 0.99), (0.8, 0.9), (0.9, 0.99)],
        "hessian_power": [1.0, 0.5, 1.0],
        "max_grad_norm": [0.1, 0.2, 0.3],
    },
    "sophiah": {"lr": [0.003, 0.01, 0.003], "clip_threshold": [1.0, 0.1, 1.0], "weight_decay": [0.1, 0.0, 0.1]},
    "sophiag": {"lr": [0.003, 0.01, 0.003], "betas": [(0.9, 0.99), (0.8, 0.9), (0.9, 0.99)]},
    "sassha": {
        "lr": [0.02, 0.01, 0.02],
        "rho": [0.2, 0.1, 0.3],
        "rho_schedule": ["linear", "constant", "cosine"],
        "rho_end": [0.01, None, 0.02],
        "hessian_power": [0.5, 1.0, 0.5],
        "hessian_power_schedule": ["linear", "constant", "linear"],
        "hessian_power_end": [0.8, None, 0.8],
        "schedule_steps": [10, None, 10],
    },
    "msassha": {"rho": [0.3, 0.1, 0.3], "lr": [0.02, 0.01, 0.02], "betas": [(0.9, 0.99), (0.8, 0.9), (0.9, 0.99)]},
    "sam": {"lr": [0.05, 0.02, 0.05], "rho": [0.05, 0.1, 0.2], "base": ["adahessian"] * 3},
    "asam": {"rho": [0.5, 0.1, 0.5], "eta": [0.01, 0.1, 0.02]},
}


@pytest.mark.parametrize("optimizer", sorted(NUMBERS))
def test_members_may_differ_in_the_numbers_of_their_optimizers(optimizer):
    """CBP's resets make entries young in one of them at a time; at first none are."""
    choices = NUMBERS[optimizer]

    def make(seed):
        return make_learner(seed, optimizer, ["cbp"], **{name: values[seed] for name, values in choices.items()})

    assert_stack_equals_singles(make, tasks=(0, 2))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "sassha"])
def test_numbers_that_change_on_the_way(optimizer):
    """A schedule halves every member's step size at its own time; two of them have the same one now and then."""

    def halve(population):
        def after(step):
            if step in (2, 4, 5):
                own = population.learners[{2: 0, 4: 1, 5: 2}[step]]
                own.optimizer.param_groups[0]["lr"] *= 0.5

        return after

    stacked, singles = (kind([make_learner(s, optimizer) for s in SEEDS]) for kind in (StackedPopulation, Population))
    train(stacked, after=halve(stacked), tasks=(0,))
    train(singles, after=halve(singles), tasks=(0,))
    assert [len(block.learners) for block in stacked.blocks] == [3]
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "adagrad", "adahessian", "sassha", "sam"])
def test_recently_reset_entries_are_the_members_own(optimizer):
    """They go on in the block, until they are as old as the others; one member has many (dense), one few, one none."""
    short = {"betas": [0.5, 0.5]} if optimizer not in ("adagrad", "sam") else {}
    stacked, singles = (
        kind([make_learner(s, optimizer, **short) for s in SEEDS]) for kind in (StackedPopulation, Population)
    )
    young = []

    def renew(population):
        def after(step):
            for member, when, rows in ((1, 2, 1), (2, 3, 3), (1, 5, 2)):
                if step == when:
                    own = population.learners[member]
                    mask = (torch.arange(4) < rows).view(4, 1)
                    own.optimizer.reset_entries(own.net.head.weight, mask)
            young.append([learner.optimizer.young for learner in population.learners])

        return after

    train(stacked, after=renew(stacked), tasks=(0, 2))
    assert [len(block.learners) for block in stacked.blocks] == [3]
    seen = list(young)
    train(singles, after=renew(singles), tasks=(0, 2))
    assert young[len(seen) :] == seen
    assert seen[1] == [False, True, False]
    assert seen[2] == [False, True, True]
    if optimizer == "adam":  # they have grown old
        assert seen[-1] == [False] * 3
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)


@pytest.mark.parametrize("algo", ["bp", "cbp"])
def test_those_that_are_differentiated_together_and_updated_apart(algo):
    """They may differ in whatever they like, and start anew while the others go on."""
    rates = [0.05, 0.02, 0.1]

    def make(seed):
        options = {"lr": rates[seed], "update_freq": 2 + seed, "max_grad_norm": [None, 0.3, 0.1][seed]}
        return make_learner(seed, "shampoo", [algo], **options)

    assert_stack_equals_singles(make)

    def restart(population):
        def after(step):
            if step == 3:
                population.learners[1].restart(make_generator(1, "net", "reset"))

        return after

    stacked, singles = (kind([make(s) for s in SEEDS]) for kind in (StackedPopulation, Population))
    train(stacked, after=restart(stacked), tasks=(0, 2))
    train(singles, after=restart(singles), tasks=(0, 2))
    assert [len(block.learners) for block in stacked.blocks] == [3]
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)


def test_an_optimizer_of_another_library_is_updated_apart():
    """It declares nothing of its state: torch's Adafactor, whose averages are of rows and columns."""
    net = NETS["mlp"]((4,), 2, hidden=[])
    if not hasattr(torch.optim, "Adafactor"):
        pytest.skip("this torch has none")
    assert not get_optimizer("adafactor", net).stackable
    assert_stack_equals_singles(lambda seed: make_learner(seed, "adafactor", lr=0.01 * (1 + seed)), tasks=(0, 2))
    assert not get_optimizer("lbfgs", net).plain_gradient
    assert not get_optimizer("kfac", net).plain_gradient
