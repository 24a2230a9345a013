"""The contract of a population: a stack of three equals three single runs."""

import copy
import io
import math
from dataclasses import dataclass

import plugged
import pytest
import torch
from eager import EAGER

from lop.algos import INTERVENTIONS, Intervention
from lop.nets import NETS
from lop.nets.init import initialise_
from lop.nets.stack import Stack
from lop.optimizers import OPTIMIZERS, get_optimizer, list_optimizers
from lop.optimizers.multi_tensor import random_signs
from lop.training.learner import Learner
from lop.training.looped import Population
from lop.training.population import make_population
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator

SHAPES = {"mlp": (12,), "actor_critic": (12,), "convnet": (1, 12, 12), "resnet18": (3, 8, 8)}
SMALL = {
    "mlp": {"hidden": [8, 7]},
    "convnet": {"channels": [4, 5], "kernel_sizes": [3, 3], "hidden": [6]},
    "resnet18": {"width": 4, "blocks": [1, 1]},
}
# With these every optimizer moves the weights well within a few steps.
STACKED = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"lr": 0.003, "amsgrad": True},
    "adamw": {"lr": 0.003},
    "nadam": {"lr": 0.003},
    "radam": {"lr": 0.003},
    "adamax": {"lr": 0.003},
    "rmsprop": {"lr": 0.003, "momentum": 0.9, "centered": True},
    "adagrad": {"lr": 0.01, "lr_decay": 0.01},
    "adadelta": {"lr": 0.5},
    "rprop": {"lr": 0.001},
    "asgd": {"lr": 0.01},
    "adahessian": {"lr": 0.02, "lazy_hessian": 2},
    "sophiah": {"lr": 0.003, "lazy_hessian": 3, "n_samples": 2},
    "sophiag": {"lr": 0.003, "lazy_hessian": 3},
    "sassha": {"lr": 0.02, "lazy_hessian": 3, "weight_decay": 0.01},
    "msassha": {"lr": 0.02, "lazy_hessian": 3, "adaptive": True, "hessian_power": 1.0},  # a root of ~0 is all rounding
    "sam": {"lr": 0.05, "base": "adahessian"},
    "asam": {"lr": 0.05},
    "upgd": {"lr": 0.05, "adaptive": True, "second_order": True, "lazy_hessian": 2},
    "muon": {"lr": 0.02, "adam_lr": 0.003, "weight_decay": 0.01},
    "trac": {"lr": 0.01, "scale": 0.05, "discounts": [0.9, 0.99]},
} | {
    name: plugged.options.get(name, {})
    for name in plugged.names
    if getattr(OPTIMIZERS.get(name), "stackable", False) is True
}
LESS_EAGER = {  # units of so small a net live a while, so that members differ in which are reset
    "cbp": {"replacement_rate": 0.1, "maturity_threshold": 2},
    "redo": {"period": 4, "threshold": 0.5},
    "snr": {"min_time": 1, "max_time": 16, "refresh": 2, "eta": 0.4},
    "l2_init": {"resample": True, "weight": 0.01},
}
OPTIONS = EAGER | LESS_EAGER
SEEDS = (0, 1, 2)


@dataclass
class Examples:
    """A task of one member: three batches in two epochs."""

    net: str
    seed: int
    index: int
    active: torch.Tensor | None = None

    def __post_init__(self):
        generator = make_generator(self.seed, "examples", self.index)
        self.x = torch.randn(48, *SHAPES[self.net], generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 3, (48,), generator=generator)
        if self.index == 1:  # another number of outputs in each task, of other outputs in each member
            self.active = torch.tensor([0, 1, 2]) if self.seed else torch.tensor([0, 1, 2, 3])

    @property
    def steps_per_epoch(self):
        return 4

    def batches(self, epoch=0, start=0):
        return list(zip(self.x.split(10), self.y.split(10), strict=True))[start:4]

    def reference(self, size):
        return self.x[:size], self.y[:size]

    def evaluation(self, split, limit=None):
        yield self.x, self.y


def make_learner(seed, optimizer="sgd", algos=(), net="mlp", net_options=None, loss="cross_entropy", **options):
    module = NETS[net](SHAPES[net], 4, **{**SMALL[net], **(net_options or {})}).double()
    initialise_(module, make_generator(seed, "net"))
    module.double()
    hyperparameters = {**STACKED.get(optimizer, {}), **options}
    made = get_optimizer(optimizer, module, seed=seed, **hyperparameters)
    interventions = [
        algo if isinstance(algo, Intervention) else INTERVENTIONS[algo](**OPTIONS.get(algo, {})) for algo in algos
    ]
    return Learner(module, made, interventions, seed=seed, loss=loss)


def train(population, seeds=SEEDS, tasks=(0, 1, 2), net="mlp", after=lambda step: None):
    """Tasks of two epochs of four batches, as the loop of a run does it. -> results, one row per step."""
    rows, step = [], 0
    for index in tasks:
        current = [Examples(net, seed, index) for seed in seeds]
        population.start_task(current)
        for epoch in range(2):
            population.start_epoch(current, epoch)
            for batches in zip(*(task.batches() for task in current), strict=True):
                rows.append(population.learn(batches))
                step += 1
                after(step)
            population.end_epoch(current, epoch)
        population.hand_in(current)
        population.end_task(current)
    return rows


def flat(value):
    """All tensors and numbers in nested state, in order, as (path, float64 tensor)."""
    if isinstance(value, torch.Tensor):
        return [value.detach().double().reshape(-1)]
    if isinstance(value, dict):
        return [t for key in sorted(value, key=str) for t in flat(value[key])]
    if isinstance(value, list | tuple):
        return [t for item in value for t in flat(item)]
    if isinstance(value, bool | int | float):
        return [torch.tensor([float(value)], dtype=torch.float64)]
    return []


def assert_same_state(learner, single):
    ours, theirs = learner.state_dict(), single.state_dict()
    assert ours.keys() == theirs.keys()
    for key in ours:
        mine, other = flat(ours[key]), flat(theirs[key])
        assert len(mine) == len(other)
        for a, b in zip(mine, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, equal_nan=True, msg=lambda m, key=key: f"{key}: {m}")


def assert_stack_equals_singles(make, net="mlp", tasks=(0, 1, 2)):
    """make(seed) -> Learner. Everything that can be seen of a member: results of every step, and its whole state."""
    stacked = StackedPopulation([make(seed) for seed in SEEDS])
    singles = Population([make(seed) for seed in SEEDS])
    sizes = []
    rows = train(
        stacked, net=net, tasks=tasks, after=lambda step: sizes.append([len(b.learners) for b in stacked.blocks])
    )
    expected = train(singles, net=net, tasks=tasks)
    assert all(size == [3] for size in sizes)  # one computation at every step
    for row, single_row in zip(rows, expected, strict=True):
        for result, single in zip(row, single_row, strict=True):
            torch.testing.assert_close(result.loss, single.loss, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(result.logits, single.logits, rtol=1e-9, atol=1e-9)
    for learner, single in zip(stacked.learners, singles.learners, strict=True):
        assert_same_state(learner, single)
    first, second = (next(learner.net.parameters()) for learner in stacked.learners[:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("optimizer", sorted(STACKED))
@pytest.mark.parametrize("algo", ["bp", "l2_init", "ema", "cbp"])
def test_every_optimizer(optimizer, algo):
    assert_stack_equals_singles(lambda seed: make_learner(seed, optimizer, [algo]))


@pytest.mark.parametrize("optimizer", ["sgd", "sassha"])
@pytest.mark.parametrize("algo", sorted(name for name, one in INTERVENTIONS.items() if one.stackable))
def test_every_intervention(optimizer, algo):
    assert_stack_equals_singles(lambda seed: make_learner(seed, optimizer, [algo]))


@pytest.mark.parametrize("optimizer", ["adam", "adahessian", "asam", "sophiag"])
@pytest.mark.parametrize(
    ("net", "options"),
    [
        ("mlp", {"layer_norm": True}),
        ("mlp", {"activation": "crelu"}),
        ("convnet", {}),
        ("resnet18", {}),
        ("resnet18", {"residual_readers": "next"}),
    ],
    ids=["layer_norm", "crelu", "convnet", "resnet18", "resnet18_next"],
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
@pytest.mark.parametrize("algo", ["bp", "cbp", "l2"])
def test_a_member_that_diverges_disturbs_nobody(optimizer, algo):
    def poison(step):
        if step == 3:
            with torch.no_grad():
                diverging.net.output_layer().weight.fill_(math.nan)

    make = lambda seed: make_learner(seed, optimizer, [algo], max_grad_norm=0.5)  # noqa: E731
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


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


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
@pytest.mark.parametrize("algo", ["bp", "cbp"])
def test_members_may_differ_in_the_numbers_of_their_optimizers(optimizer, algo):
    """CBP's resets make entries young in one of them at a time."""
    choices = NUMBERS[optimizer]

    def make(seed):
        return make_learner(seed, optimizer, [algo], **{name: values[seed] for name, values in choices.items()})

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


def test_who_is_stackable():
    found = {name for name in list_optimizers() if get_optimizer_or_none(name)}
    assert found == {*STACKED, "sophia"}


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
