"""ReDo and SNR against per-unit references."""

import math

import pytest
import torch

from lop.algos.layout import UnitLayout
from lop.algos.redo import ReDo, tau_dormant_units
from lop.algos.silence import AdaptiveThreshold
from lop.algos.snr import SNR
from lop.nets import HiddenLayer
from lop.nets.init import Init, linear
from lop.utils.seeding import make_generator


def layout(units):
    """Of a net with so many hidden units."""
    incoming, outgoing = linear(2, units, Init()), linear(units, 1, Init())
    return UnitLayout([HiddenLayer("h", incoming, None, torch.nn.ReLU(), (outgoing,))], incoming.weight)


def features_of(learner, x):
    recorded = []
    handles = [
        layer.activation.register_forward_hook(lambda module, inputs, output: recorded.append(output.detach()))
        for layer in learner.hidden_layers
    ]
    learner.net(x)
    for handle in handles:
        handle.remove()
    return recorded


@pytest.mark.parametrize("expansion", [1, 2])
@pytest.mark.parametrize("shape", [(6,), (6, 3, 2)])
def test_tau_dormant_units_against_a_per_unit_reference(shape, expansion):
    layer = HiddenLayer("h", linear(2, 6 // expansion, Init()), None, None, (None,), expansion)
    features = torch.randn(5, *shape, generator=make_generator(0))
    features[:, 1] *= 0.01
    features[:, 3:5] *= 0.01
    units = 6 // expansion
    activity = []
    for unit in range(units):
        values = [v for part in range(expansion) for v in features[:, unit + part * units].abs().flatten().tolist()]
        activity.append(sum(values) / len(values))
    layer_mean = sum(activity) / units
    for threshold in (0.0, 0.1, 0.7):
        expected = [a / layer_mean <= threshold for a in activity]
        assert tau_dormant_units(features, layer, threshold).tolist() == expected
    assert sum(tau_dormant_units(features, layer, 0.1)) > 0


def test_a_layer_without_any_activity_is_tau_dormant():
    layer = HiddenLayer("h", linear(2, 3, Init()), None, None, (None,))
    assert tau_dormant_units(torch.zeros(4, 3), layer, 0.0).all()


@pytest.mark.parametrize("weights", ["fresh", "original"])
def test_redo_resets_tau_dormant_units_on_its_schedule(weights, build):
    redo = ReDo(threshold=0.2, period=3, weights=weights)
    learner, task = build(redo, lr=0.01)
    first, second = learner.hidden_layers
    original = first.incoming.weight.detach().clone()
    with torch.no_grad():
        first.incoming.weight[2] = 0.001
        first.incoming.bias[5] = -100.0
        learner.net.head.weight.fill_(0.5)
    for step, (x, y) in enumerate(task.batches(), start=1):
        dormant = [
            tau_dormant_units(f, layer, 0.2) for f, layer in zip(features_of(learner, x), (first, second), strict=True)
        ]
        learner.learn(x, y)
        zeros = [(layer.outgoing[0].weight == 0).all(0) for layer in (first, second)]
        if step < 3:
            assert not zeros[0].any()
            assert learner.hidden_layers[0].incoming.bias[5] < -99
        if step == 3:
            assert dormant[0][[2, 5]].all()
            assert all(torch.equal(a, b) for a, b in zip(dormant, zeros, strict=True))
            assert first.incoming.bias[5] == 0
            same = (first.incoming.weight[[2, 5]] == original[[2, 5]]).all()
            assert same == (weights == "original")
            assert first.incoming.weight[2].abs().max() > 0.1


def lifetime_reference(fired, eta, max_time, refresh):
    """fired: per step a list of bools, per unit. Yields the units that are reset in each step."""
    units = len(fired[0])
    silent, times, threshold = [0] * units, [[] for _ in range(units)], [max_time] * units
    for step, row in enumerate(fired, start=1):
        resets = []
        for unit in range(units):
            if row[unit]:
                times[unit].append(min(silent[unit] + 1, max_time))
                silent[unit] = 0
            else:
                silent[unit] += 1
            if step % refresh == 0:
                known = sorted(times[unit])
                threshold[unit] = max_time
                if len(known) >= math.ceil(1 / eta):
                    enough = next(i for i in range(1, len(known) + 1) if i >= (1 - eta) * len(known))
                    threshold[unit] = known[enough - 1]
            if silent[unit] > threshold[unit]:
                resets.append(unit)
                silent[unit], times[unit], threshold[unit] = 0, [], max_time
        yield resets


@pytest.mark.parametrize(("eta", "refresh"), [(0.25, 1), (0.1, 1), (0.1, 7)])
def test_lifetime_snr_against_a_per_unit_reference(eta, refresh, build):
    snr = SNR(threshold="lifetime", eta=eta, max_time=12, refresh=refresh)
    learner, _ = build(snr, net_options={"hidden": [30, 7]})
    generator = make_generator(0)
    rates = torch.rand(37, generator=generator).pow(0.5)
    rates[3] = 0.0  # never fires
    fired = torch.rand(300, 37, generator=generator) < rates
    fired[150:, 10:20] &= torch.rand(150, 10, generator=generator) < 0.2  # they fire less often from here on
    expected = list(lifetime_reference(fired.tolist(), eta, 12, refresh))
    assert sum(map(len, expected)) > 20
    total = 0
    for row, units in zip(fired, expected, strict=True):
        before = snr._silence.histogram.sum(1)
        incoming = [layer.incoming.weight.detach().clone() for layer in learner.hidden_layers]
        one_example = row.float() * torch.tensor([[0.0], [1.0], [0.0]])  # fires in the batch: for any example
        snr.after_step(list(one_example.split([30, 7], dim=1)))
        changed = torch.cat(
            [(layer.incoming.weight != old).any(1) for layer, old in zip(learner.hidden_layers, incoming, strict=True)]
        )
        # Zeroed columns of the second layer's weights are no resets of its units.
        first = changed[:30].nonzero().flatten().tolist()
        assert first == [u for u in units if u < 30]
        assert ((before > 0) & (snr._silence.histogram.sum(1) == 0)).nonzero().flatten().tolist() == [
            u for u in units if before[u] > 0
        ]
        for unit in units:
            reader = (learner.hidden_layers[1].incoming if unit < 30 else learner.net.head).weight
            assert (reader[:, unit if unit < 30 else unit - 30] == 0).all()
        total += len(units)
    assert total == sum(map(len, expected))


def test_snr_resets_a_unit_that_never_fires_after_max_time(build):
    snr = SNR(threshold="lifetime", max_time=4)
    learner, task = build(snr, lr=0.0)
    with torch.no_grad():
        learner.hidden_layers[0].incoming.bias[1] = -100.0
    for step, (x, y) in enumerate(task.batches()[:5], start=1):
        learner.learn(x, y)
        assert (learner.hidden_layers[0].incoming.bias[1] == 0) == (step == 5)


class SlowUnit:
    """One unit under the authors' rule, with a histogram over all ages."""

    def __init__(self, eta, low, high, refresh):
        self.eta, self.low, self.high, self.refresh = eta, low, high, refresh
        self.age, self.threshold, self.histogram, self.step = 0, high, [0] * (high + 1), 0

    def reset_in(self, fires: bool, batch: int) -> bool:
        self.step += 1
        if fires:
            self.histogram[self.age] += 1
            self.age = 0
        else:
            self.age += batch
        reset = self.age >= self.threshold
        if reset:
            self.histogram[min(self.age, self.high)] += 1
            self.age = 0
        if self.step % self.refresh == 0:
            total, passed, quantile = sum(self.histogram[1:]), 0, 1
            for age in range(1, self.high + 1):
                passed += self.histogram[age]
                if total and passed >= (1 - self.eta) * total - 1e-9:
                    quantile = age
                    break
            self.threshold = quantile if quantile < self.threshold else 2 * self.threshold
            self.threshold = max(self.low, min(self.threshold, self.high))
            self.histogram = [0] * (self.high + 1)
        return reset


@pytest.mark.parametrize("refresh", [1, 7, 40])
@pytest.mark.parametrize("eta", [0.05, 0.3])
def test_adaptive_threshold_against_a_slow_unit(eta, refresh):
    generator = make_generator(0)
    rates = torch.rand(40, generator=generator).pow(0.5)
    rates[3], rates[4] = 0.0, 1.0
    threshold = AdaptiveThreshold(layout(40), eta=eta, min_time=10, max_time=100, refresh=refresh)
    units = [SlowUnit(eta, 10, 100, refresh) for _ in range(40)]
    total, seen = 0, set()
    for step in range(1, 601):
        fired = torch.rand(40, generator=generator) < rates
        batch = 8 if step < 400 else 5  # batches may differ
        expected = [unit.reset_in(bool(fires), batch) for unit, fires in zip(units, fired, strict=True)]
        assert threshold.overdue(fired, batch, step).tolist() == expected
        assert threshold.threshold.tolist() == [unit.threshold for unit in units]
        total += sum(expected)
        seen.update(unit.threshold for unit in units)
    assert total > 200
    assert 10 in seen
    assert len(seen) > (5 if refresh == 7 else 1)


def test_rarely_silent_units_are_reset_most():
    """The authors' code: 64, 44, 41, 19 resets within 12,000 batches of 100; the quantile of a life: 0, 7, 19, 2."""
    rates, counts = torch.tensor([0.99, 0.9, 0.5, 0.05]).repeat(10), torch.zeros(40)
    generator = make_generator(0)
    threshold = AdaptiveThreshold(layout(40), eta=0.01, min_time=100, max_time=20_000, refresh=600)
    for step in range(1, 12_001):
        counts += threshold.overdue(torch.rand(40, generator=generator) < rates, 100, step)
    often, usual, half, rare = counts.view(10, 4).mean(0).tolist()
    assert often > max(usual, half) > min(usual, half) > rare > 5
    for mean, published in zip((often, usual, half, rare), (64, 44, 41, 19), strict=True):
        assert published / 1.6 < mean < published * 1.6


def test_adaptive_snr_resets_the_units_that_are_overdue(build):
    """Two layers; fresh incoming weights, outgoing weights 0, and ages that count examples."""
    snr = SNR(min_time=30, max_time=60, refresh=4)
    learner, _ = build(snr, net_options={"hidden": [6, 5]})
    units = [SlowUnit(0.01, 30, 60, 4) for _ in range(11)]
    fired = torch.rand(60, 11, generator=make_generator(1)) < torch.linspace(0, 0.9, 11)
    total = 0
    for row in fired:
        with torch.no_grad():
            learner.net.head.weight.fill_(1.0)
            learner.hidden_layers[1].incoming.weight.fill_(1.0)
        before = [layer.incoming.weight.detach().clone() for layer in learner.hidden_layers]
        snr.after_step(list((row.float() * torch.eye(8, 1)).split([6, 5], dim=1)))  # fires for one example of eight
        expected = [unit.reset_in(bool(fires), 8) for unit, fires in zip(units, row, strict=True)]
        changed = (learner.hidden_layers[0].incoming.weight != before[0]).any(1).tolist()
        assert changed == expected[:6]
        assert (learner.hidden_layers[1].incoming.weight[:, expected[:6]] == 0).all()
        assert (learner.net.head.weight == 0).all(0).tolist() == expected[6:]
        total += sum(expected)
    assert total > 20


@pytest.mark.parametrize(
    "make", [lambda: ReDo(threshold=0.6, period=2, weights="original"), lambda: SNR(min_time=1, max_time=16)]
)
def test_the_form_for_accelerators_does_the_same(make, build, monkeypatch):
    """There all units are written with a mask, as the number of those to reset would have to be waited for."""

    def run(method):
        learner, task = build(method, optimizer="adam", lr=0.01)
        with torch.no_grad():
            learner.hidden_layers[0].incoming.bias[3:6] = -100.0
        for x, y in task.batches()[:2]:
            learner.learn(x, y)
        return learner

    listed = run(make())
    for module in ("redo", "snr"):
        monkeypatch.setattr(f"lop.algos.{module}.candidates", lambda mask: (torch.arange(len(mask)), mask))
    masked = run(make())
    state, other = (learner.interventions[0].state_dict() for learner in (listed, masked))
    state, other = ({**each.pop("silence", {}), **each} for each in (state, other))
    for name in set(state) - {"generator", "original"}:
        assert torch.equal(torch.as_tensor(state[name]), torch.as_tensor(other[name]))
    assert (listed.hidden_layers[0].incoming.bias[3:6] == 0).all()
    for p, q in zip(listed.net.parameters(), masked.net.parameters(), strict=True):
        if isinstance(listed.interventions[0], SNR):  # its fresh weights are drawn in another order
            p, q = p == 0, q == 0
        assert torch.equal(p, q)
