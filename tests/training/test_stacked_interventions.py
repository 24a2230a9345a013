"""Interventions that act for all members of a stack at once: they are what acts on each alone."""

import copy

import pytest
from stacked_members import SEEDS, assert_same_state, make_learner, train

from lop.algos import INTERVENTIONS, Intervention
from lop.training.looped import Population
from lop.training.stacked import StackedPopulation

# What each of three members has of its own: numbers that may differ within one computation.
DIFFERENT = {
    "l2": {"weight": (0.0, 1e-3, 0.1)},
    "l1_init": {"weight": (1e-3, 1e-2, 0.0)},
    "l2_init": {"weight": (1e-3, 0.1, 1.0), "resample": (True,) * 3},
    "huber_init": {"weight": (1e-3, 0.1, 1.0), "delta": (0.01,) * 3},
    "hybrid_init": {"weight": (1e-3, 0.1, 0.0), "l1_weight": (1e-3, 0.0, 1e-2)},
    "ewc": {"weight": (0.1, 1.0, 10.0), "samples": (8,) * 3},
    "l2_init_ewc": {"weight": (0.1, 1.0, 10.0), "l2_weight": (1e-3, 1e-2, 0.1), "samples": (8,) * 3},
    "shrink_and_perturb": {"shrink": (1e-2, 0.0, 1e-3), "scale": (0.0, 1e-2, 1e-2)},
    "ema": {"decay": (0.5, 0.9, 0.99)},
    "cbp": {
        "replacement_rate": (0.2, 0.1, 0.0),
        "maturity_threshold": (2, 5, 3),
        "decay": (0.5, 0.9, 0.99),
        "accumulate": (True, False, True),
    },
    "redo": {"period": (3, 4, 5), "threshold": (0.5, 0.9, 0.2), "weights": ("original",) * 3},
    "snr": {"eta": (0.4, 0.3, 0.2), "min_time": (1,) * 3, "max_time": (16,) * 3, "refresh": (2,) * 3},
}
FORMS = [
    *((name, {}) for name in DIFFERENT),
    ("cbp", {"util_type": "contribution"}),
    ("cbp", {"util_type": "weight"}),
    ("cbp", {"util_type": "random"}),
    ("shrink_and_perturb", {"form": "noise", "noise_std": 0.01}),
    ("snr", {"threshold": "lifetime", "max_time": 3}),
    ("ewc", {"fisher": False}),
]


def options_of(name, index, **fixed):
    return {option: values[index] for option, values in DIFFERENT[name].items()} | fixed


def populations(make, tasks=(0, 2), net="mlp", **options):
    """(stacked, single) after the same training; make(seed) -> interventions."""
    learners = lambda: [make_learner(seed, algos=make(seed), net=net, **options) for seed in SEEDS]  # noqa: E731
    stacked, singles = StackedPopulation(learners()), Population(learners())
    for population in (stacked, singles):
        train(population, net=net, tasks=tasks)
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)
    return stacked, singles


def in_use(stacked):
    """Of the one block: the stack at each place, or None."""
    (block,) = stacked.blocks
    return [place._stack for place in block.interventions._places]


@pytest.mark.parametrize(("name", "fixed"), FORMS, ids=[f"{n} {' '.join(map(str, f.values()))}" for n, f in FORMS])
def test_members_may_differ_in_numbers(name, fixed):
    stacked, _ = populations(lambda seed: [INTERVENTIONS[name](**options_of(name, seed, **fixed))])
    (stack,) = in_use(stacked)
    assert stack is not None
    assert [own.host for own in stack.members] == stacked.learners


@pytest.mark.parametrize("optimizer", ["sassha", "sophiag", "sam"])
@pytest.mark.parametrize("name", ["l2_init", "huber_init", "ewc"])
def test_penalties_reach_every_pass_and_the_curvature(name, optimizer):
    stacked, _ = populations(lambda seed: [INTERVENTIONS[name](**options_of(name, seed))], optimizer=optimizer)
    assert all(in_use(stacked))


@pytest.mark.parametrize(("net", "net_options"), [("mlp", {"activation": "crelu"}), ("convnet", {})])
@pytest.mark.parametrize("name", ["cbp", "snr", "redo"])
def test_units_of_every_shape(net, net_options, name):
    make = lambda seed: [INTERVENTIONS[name](**options_of(name, seed))]  # noqa: E731
    stacked, singles = populations(make, net=net, net_options=net_options, tasks=(0,))
    assert all(in_use(stacked))
    if name == "cbp":
        assert [own.interventions[0].replaced for own in singles.learners][:2] > [0, 0]


def test_several_at_once_in_their_order():
    names = ("cbp", "l2", "weight_clipping", "snr", "l2_init", "ema")
    make = lambda seed: [INTERVENTIONS[n](**(options_of(n, seed) if n in DIFFERENT else {})) for n in names]  # noqa: E731
    stacked, _ = populations(make)
    assert [stack is not None for stack in in_use(stacked)] == [True, True, False, True, True, True]


def test_options_that_are_no_numbers_of_the_same_computation_are_taken_one_by_one():
    deltas = (0.01, 0.1, 1.0)
    stacked, _ = populations(lambda seed: [INTERVENTIONS["huber_init"](weight=0.1, delta=deltas[seed])])
    assert in_use(stacked) == [None]


def test_members_may_have_other_lists():
    lists = (["cbp", "l2"], ["l2", "ema"], [])
    stacked, _ = populations(lambda seed: [INTERVENTIONS[n](**options_of(n, seed)) for n in lists[seed]])
    (block,) = stacked.blocks
    assert len(block.learners) == 3


def test_what_a_subclass_writes_anew_is_not_taken_for_a_stacks():
    class Doubled(INTERVENTIONS["l2"]):
        def penalty(self):
            return 2 * sum((p * p).sum() for p in self.parameters.values())

    class Renamed(INTERVENTIONS["l2"]):
        """Nothing but a name."""

    assert (Doubled.stacks, Renamed.stacks) == (False, True)
    stacked, _ = populations(lambda seed: [Doubled(weight=0.1), Renamed(weight=0.1)])
    assert [stack is not None for stack in in_use(stacked)] == [False, True]


def test_state_that_is_loaded_or_made_anew_between_two_steps_is_taken_in():
    def learners():
        names = ("cbp", "l2_init", "ema")
        return [make_learner(s, algos=[INTERVENTIONS[n](**options_of(n, s)) for n in names]) for s in SEEDS]

    def change(population):
        def after(step):
            if step == 3:
                for learner in population.learners:
                    for own in learner.interventions:
                        own.load_state_dict(copy.deepcopy(own.state_dict()))
                        for values in getattr(own, "_initial", {}).values():
                            values.add_(0.1)
            if step == 6:
                for own in population.learners[1].interventions[1:]:
                    own.restart()

        return after

    stacked, singles = StackedPopulation(learners()), Population(learners())
    for population in (stacked, singles):
        train(population, tasks=(0, 2), after=change(population))
    assert all(in_use(stacked))
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)


def test_a_member_that_leaves_takes_its_state_along():
    names = ("cbp", "l2_init", "ema", "snr")
    stacked = StackedPopulation(
        [make_learner(s, algos=[INTERVENTIONS[n](**options_of(n, s)) for n in names]) for s in SEEDS]
    )
    train(stacked, tasks=(0,))
    gone = stacked.learners[0]
    before = copy.deepcopy([own.state_dict() for own in gone.interventions])
    stacked.remove(0)
    train(stacked, seeds=SEEDS[1:], tasks=(1,))
    for own, old in zip(gone.interventions, before, strict=True):
        now = own.state_dict()
        assert str(now) == str(old)
    shadow, initial = gone.interventions[2]._shadow, gone.interventions[1]._initial
    for tensor in (*shadow.values(), *initial.values(), gone.interventions[0]._births):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # it does not hold the others' memory


def test_a_method_for_stacks_has_what_it_needs():
    """Those that say they stand for many do so by `penalty` and `after_step` alone."""
    for kind in INTERVENTIONS.values():
        if kind.stacks:
            assert kind.on_gradients is Intervention.on_gradients
            assert not isinstance(kind.needs_gradients, bool)
