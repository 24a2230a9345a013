"""Continual backprop against scalar-by-scalar references."""

import math

import pytest
import torch

from lop.algos import INTERVENTIONS
from lop.algos.cbp import CBP, MatureUnits
from lop.algos.layout import UnitLayout
from lop.algos.utility import FACTORS, UnitStatistics
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator

SHAPES = [
    ("mlp", {}),
    ("mlp", {"activation": "crelu"}),
    ("convnet", {}),
    ("convnet", {"activation": "crelu"}),
    ("resnet18", {}),
]


def units_of(learner):
    return UnitLayout(learner.hidden_layers, learner.net.head.weight)


def reference_utility(layer, features, util_type, mean):
    """y of every unit, one number at a time, in double precision. features: (batch, features[, h, w]), as read."""
    readers = [
        module.weight.detach().double().flatten(2) if module.weight.dim() == 4 else module.weight.detach().double()
        for module in layer.outgoing
    ]
    incoming = layer.incoming.weight.detach().double()
    result = []
    for unit in range(layer.units):
        parts = []
        for part in range(layer.expansion):
            feature = part * layer.units + unit
            outgoing, count = 0.0, 0
            for weight in readers:
                per_feature = weight.reshape(len(weight), layer.expansion * layer.units, -1)
                for row in per_feature[:, feature].reshape(-1).tolist():
                    outgoing, count = outgoing + abs(row), count + 1
            outgoing /= count
            row = incoming[unit].reshape(-1).tolist()
            inward = sum(abs(w) for w in row) / len(row)
            values = features[:, feature].reshape(-1).tolist()
            magnitude = sum(abs(v) for v in values) / len(values)
            deviation = sum(abs(v - mean[feature]) for v in values) / len(values)
            parts.append(
                {
                    "weight": outgoing,
                    "contribution": outgoing * magnitude,
                    "adaptation": 1 / inward,
                    "zero_contribution": outgoing * deviation,
                    "adaptable_contribution": outgoing * deviation / inward,
                    "feature_by_input": deviation / inward,
                }[util_type]
            )
        result.append(sum(parts) / len(parts))
    return result


@pytest.mark.parametrize("util_type", sorted(set(FACTORS) - {"random"}))
@pytest.mark.parametrize(("net", "options"), SHAPES)
def test_utilities_and_means_against_a_scalar_reference(net, options, util_type, build):
    learner, task = build(net=net, net_options=options)
    layers = [(i, layer) for i, layer in enumerate(learner.hidden_layers) if layer.outgoing]
    decay = 0.8
    statistics = UnitStatistics(units_of(learner), util_type, decay)
    means = [[0.0] * (layer.units * layer.expansion) for _, layer in layers]
    utilities = [[0.0] * layer.units for _, layer in layers]
    recorded = {}
    for position, layer in enumerate(learner.hidden_layers):
        layer.activation.register_forward_hook(lambda m, i, output, k=position: recorded.update({k: output.detach()}))
    for step, (x, y) in enumerate(task.batches()[:3], start=1):
        learner.learn(x, y)
        features = [recorded[position] for position in range(len(learner.hidden_layers))]
        statistics.update(features)
        for i, (position, layer) in enumerate(layers):
            read = layer.as_read(features[position]).double()
            for feature in range(read.shape[1]):
                values = read[:, feature].reshape(-1).tolist()
                means[i][feature] = decay * means[i][feature] + (1 - decay) * sum(values) / len(values)
            corrected = [m / (1 - decay**step) for m in means[i]]
            y_now = reference_utility(layer, read, util_type, corrected)
            utilities[i] = [decay * u + (1 - decay) * v for u, v in zip(utilities[i], y_now, strict=True)]
            expected = torch.tensor([u / (1 - decay**step) for u in utilities[i]])
            torch.testing.assert_close(statistics.utilities(layer), expected, rtol=2e-5, atol=1e-7)
            got = statistics.mean_activations(layer, torch.arange(layer.units)).flatten()
            torch.testing.assert_close(got, torch.tensor(corrected), rtol=2e-5, atol=1e-7)


def test_large_weights_are_summed_in_blocks(build, monkeypatch):
    monkeypatch.setattr("lop.algos.utility.BLOCK", 20)
    learner, _ = build()
    blocked = UnitStatistics(units_of(learner), "adaptable_contribution", 0.9)
    monkeypatch.undo()
    whole = UnitStatistics(units_of(learner), "adaptable_contribution", 0.9)
    assert max(len(blocks) for _, blocks in blocked._magnitudes._blocks) > 1
    features = [torch.rand(8, layer.units, generator=make_generator(1)) for layer in learner.hidden_layers]
    for statistics in (blocked, whole):
        statistics.update(features)
    for layer in learner.hidden_layers:
        torch.testing.assert_close(blocked.utilities(layer), whole.utilities(layer))


def reference_counts(units, rate, maturity, steps):
    """Ages one by one; the youngest of the mature units are replaced, as the number cannot depend on which."""
    ages, owed, replaced = [0] * units, 0.0, []
    for _ in range(steps):
        ages = [age + 1 for age in ages]
        mature = [i for i, age in enumerate(ages) if age > maturity]
        owed += rate * len(mature)
        number = int(owed)
        owed -= number
        replaced.append(number)
        for i in sorted(mature, key=lambda i: ages[i])[:number]:
            ages[i] = 0
    return replaced


@pytest.mark.parametrize(("rate", "maturity"), [(0.003, 0), (0.003, 40), (0.2, 3), (0.9, 2), (1.0, 0)])
def test_the_number_of_mature_units_needs_no_ages(rate, maturity):
    counts = MatureUnits(10, maturity)
    got = [counts.due(step, rate, None) for step in range(1, 401)]
    assert got == reference_counts(10, rate, maturity, 400)


@pytest.mark.parametrize("accumulate", [True, False])
def test_replacements_over_ten_thousand_steps_are_rate_times_eligible_times_steps(accumulate):
    units, rate, maturity, steps = 100, 1e-4, 50, 10_000
    counts, total, eligible = MatureUnits(units, maturity), 0, 0
    generator = make_generator(0)
    for step in range(1, steps + 1):
        chance = None if accumulate else torch.rand((), generator=generator).item()
        number = counts.due(step, rate, chance)
        total += number
        eligible += counts.mature + number
    expected = rate * eligible
    assert 90 < expected < 100
    assert abs(total - expected) <= (1 if accumulate else 4 * math.sqrt(expected))


def births(cbp):
    return [cbp.births(layer).clone() for layer in cbp.units.layers]


def test_the_least_useful_mature_units_are_replaced_and_only_they(build):
    """Units and numbers over a whole run against ages and utilities looked at from outside."""
    cbp = CBP(replacement_rate=0.02, maturity_threshold=5, decay=0.7)
    learner, task = build(cbp, net_options={"hidden": [20, 20]})
    for step in range(1, 61):
        before = births(cbp)
        x, y = task.batches()[step % 6]
        calls = []
        original = cbp._replacement

        def spy(layer, number, calls=calls, original=original):
            calls.append((cbp.units.layers.index(layer), number, cbp._statistics.utilities(layer).clone()))
            return original(layer, number)

        cbp._replacement = spy
        learner.learn(x, y)
        cbp._replacement = original
        replaced = [(old != new).nonzero().flatten().tolist() for old, new in zip(before, births(cbp), strict=True)]
        for i, number, utility in calls:
            mature = [u for u in range(20) if step - before[i][u] > 5]
            least = sorted(mature, key=lambda u: utility[u].item())[:number]
            assert sorted(least) == replaced[i]
        assert sum(map(len, replaced)) == sum(number for _, number, _ in calls)
    assert cbp.replaced > 20


@pytest.mark.parametrize(
    ("init", "bound"), [("kaiming_uniform", math.sqrt(6 / 12)), ("torch_default", 1 / math.sqrt(12))]
)
def test_a_replaced_unit_starts_anew(build, init, bound):
    """With bias 0, also where the net's initial distribution has others. bound: of weights with fan-in 12."""
    cbp = CBP(replacement_rate=0.125, maturity_threshold=3)
    learner, task = build(cbp, optimizer="adam", lr=0.01, net_options={"init": init})
    incoming, reader = learner.hidden_layers[0].incoming, learner.hidden_layers[1].incoming
    for x, y in task.batches()[:4]:
        learner.learn(x, y)
    (unit,) = (births(cbp)[0] == 4).nonzero().flatten().tolist()
    row = incoming.weight[unit]
    assert row.abs().max() <= bound
    assert row.abs().max() > 0.5 * bound
    assert incoming.bias[unit] == 0
    assert (reader.weight[:, unit] == 0).all()
    for p, entries in ((incoming.weight, unit), (incoming.bias, unit), (reader.weight, (slice(None), unit))):
        assert (learner.optimizer.state[p]["exp_avg"][entries] == 0).all()
        assert learner.optimizer.state[p]["exp_avg_sq"][entries].unique().numel() == 1  # the typical one
    assert (cbp._statistics._of(learner.hidden_layers[0])[:, :, unit] == 0).all()


def test_the_mean_contribution_is_handed_to_the_next_bias(build):
    cbp = CBP(replacement_rate=0.125, maturity_threshold=3, decay=0.5)
    learner, task = build(cbp, net_options={"hidden": [8]}, lr=0.0)
    means = torch.zeros(8)
    for x, y in task.batches()[:4]:
        means = 0.5 * means + 0.5 * learner.hidden_layers[0].activation(learner.hidden_layers[0].incoming(x)).mean(0)
        weight, bias = learner.net.head.weight.detach().clone(), learner.net.head.bias.detach().clone()
        learner.learn(x, y)
    (unit,) = (births(cbp)[0] == 4).nonzero().flatten().tolist()
    expected = bias + weight[:, unit] * (means[unit] / (1 - 0.5**4)).detach()
    torch.testing.assert_close(learner.net.head.bias.detach(), expected)
    assert not torch.equal(learner.net.head.bias, bias)


def test_random_utility_replaces_other_units(build):
    chosen = {}
    for util_type in ("random", "adaptable_contribution"):
        cbp = CBP(replacement_rate=0.05, maturity_threshold=2, util_type=util_type)
        learner, task = build(cbp, net_options={"hidden": [40, 40]})
        for x, y in task.batches():
            learner.learn(x, y)
        assert cbp.replaced >= 14
        chosen[util_type] = births(cbp)
    assert any(not torch.equal(a, b) for a, b in zip(*chosen.values(), strict=True))


@pytest.mark.parametrize(
    ("option", "value"), [("replacement_rate", 1.5), ("maturity_threshold", -1), ("util_type", "use"), ("decay", 1.0)]
)
def test_bad_options_are_named(option, value):
    with pytest.raises(UserError, match=f"^{option} must be"):
        INTERVENTIONS["cbp"](**{option: value})
