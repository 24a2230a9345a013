"""Resetting units: what is written, what stays, what the optimizer forgets."""

import pytest
import torch

from lop.algos.layout import UnitLayout
from lop.algos.units import UnitReset, candidates, reset_units
from lop.nets.init import fresh_parameters
from lop.utils.seeding import make_generator


def resettable(learner):
    return UnitLayout(learner.hidden_layers, learner.net.head.weight).layers


def reset_of(layer, units, chosen=None, means=None):
    units = torch.tensor(units)
    incoming = fresh_parameters(layer.incoming, make_generator(1), units=len(units))
    return UnitReset(layer, units, incoming, chosen, means)


SETTINGS = [
    ("mlp", {}),
    ("mlp", {"activation": "crelu"}),
    ("mlp", {"layer_norm": True}),
    ("mlp", {"activation": "prelu"}),
    ("mlp", {"activation": "fourier"}),
    ("convnet", {}),
    ("convnet", {"activation": "crelu", "layer_norm": True}),
    ("resnet18", {}),
]


@pytest.mark.parametrize("net", ["mlp", "convnet"])
def test_a_units_own_slope_starts_again(net, build):
    learner, task = build(net=net, net_options={"activation": "prelu"}, optimizer="adam")
    for x, y in task.batches()[:4]:
        learner.learn(x, y)
    layer = learner.hidden_layers[0]
    weight = layer.activation.weight
    before = weight.detach().clone()
    reset_units(learner.optimizer, [reset_of(layer, [2])])
    assert weight[2] == 0.25
    kept = torch.arange(layer.units) != 2
    assert torch.equal(weight[kept], before[kept])
    assert not torch.equal(before, torch.full_like(before, 0.25))
    state = learner.optimizer.state[weight]["exp_avg"]
    assert state[2] == 0
    assert state[kept].abs().min() > 0


@pytest.mark.parametrize(("net", "options"), SETTINGS)
def test_the_function_changes_by_the_units_own_contribution_only(net, options, build):
    """Without normalisation over units: outputs after the reset = outputs with the unit's features silenced."""
    if options.get("layer_norm"):
        options = {**options, "layer_norm": False}
    learner, task = build(net=net, net_options=options)
    x, _ = task.batches()[0]
    learner.net.eval()
    for layer in resettable(learner):
        unit = 1
        silenced = [unit + part * layer.units for part in range(layer.expansion)]

        def silence(module, inputs, output, silenced=silenced):
            output = output.clone()
            output[:, silenced] = 0
            return output

        handle = layer.activation.register_forward_hook(silence)
        expected = learner.net(x)
        handle.remove()
        assert not torch.allclose(learner.net(x), expected, atol=1e-6)
        reset_units(learner.optimizer, [reset_of(layer, [unit])])
        torch.testing.assert_close(learner.net(x), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("net", "options"), SETTINGS)
def test_what_is_written_and_what_stays(net, options, build):
    learner, task = build(net=net, net_options=options, optimizer="adam", lr=0.01)
    for x, y in task.batches()[:2]:
        learner.learn(x, y)
    layer = resettable(learner)[-1 if net != "convnet" else 1]
    before = {name: p.detach().clone() for name, p in learner.net.state_dict().items()}
    moments = {name: learner.optimizer.state[p]["exp_avg"].clone() for name, p in learner.net.named_parameters()}
    squares = {name: learner.optimizer.state[p]["exp_avg_sq"].clone() for name, p in learner.net.named_parameters()}
    reset = reset_of(layer, [0, 2])
    reset_units(learner.optimizer, [reset])

    written = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in before.items()}
    modules = {id(module): name for name, module in learner.net.named_modules()}
    for key in ("weight", "bias"):
        written[f"{modules[id(layer.incoming)]}.{key}"][[0, 2]] = True
        if layer.norm is not None:
            written[f"{modules[id(layer.norm)]}.{key}"][[0, 2]] = True
    for key in ("running_mean", "running_var"):
        if f"{modules.get(id(layer.norm))}.{key}" in written:
            written[f"{modules[id(layer.norm)]}.{key}"][[0, 2]] = True
    slope = f"{modules.get(id(layer.activation))}.weight"
    if slope in written:
        written[slope][[0, 2]] = True
        assert (layer.activation.weight[[0, 2]] == 0.25).all()
    (reader,) = layer.outgoing
    columns = written[f"{modules[id(reader)]}.weight"]
    groups = columns.view(len(columns), layer.expansion * layer.units, -1)
    for part in range(layer.expansion):
        groups[:, [part * layer.units, part * layer.units + 2]] = True

    torch.testing.assert_close(layer.incoming.weight[[0, 2]], reset.incoming["weight"])
    assert (layer.outgoing_weight(reader)[:, :, [0, 2]] == 0).all()
    if layer.norm is not None:
        assert (layer.norm.weight[[0, 2]] == 1).all()
        assert (layer.norm.bias[[0, 2]] == 0).all()
    if hasattr(layer.norm, "running_var"):
        assert (layer.norm.running_mean[[0, 2]] == 0).all()
        assert (layer.norm.running_var[[0, 2]] == 1).all()
    parameters = dict(learner.net.named_parameters())
    for name, value in learner.net.state_dict().items():
        assert torch.equal(value[~written[name]], before[name][~written[name]]), name
        if name in parameters:
            state = learner.optimizer.state[parameters[name]]
            assert (state["exp_avg"][written[name]] == 0).all()
            assert (state["exp_avg_sq"][written[name]] == 0).all()
            assert torch.equal(state["exp_avg_sq"][~written[name]], squares[name][~written[name]]), name
            assert torch.equal(state["exp_avg"][~written[name]], moments[name][~written[name]]), name


def test_units_that_are_not_chosen_stay(build):
    """The form used where the number of resets is not known on the host: all units, and a mask."""
    masked, _ = build(optimizer="adam")
    listed, task = build(optimizer="adam")
    for learner in (masked, listed):
        learner.learn(*task.batches()[0])
    fresh = fresh_parameters(masked.hidden_layers[0].incoming, make_generator(1))
    mask = torch.tensor([True, False, False, True, False, False, False, False])
    means = torch.rand(1, 8, generator=make_generator(2))
    layer = masked.hidden_layers[0]
    reset_units(masked.optimizer, [UnitReset(layer, torch.arange(8), fresh, mask, means)])
    units, chosen = candidates(mask)
    assert chosen is None
    assert units.tolist() == [0, 3]
    rows = {name: value[units] for name, value in fresh.items()}
    reset_units(listed.optimizer, [UnitReset(listed.hidden_layers[0], units, rows, None, means[:, units])])
    for p, q in zip(masked.net.parameters(), listed.net.parameters(), strict=True):
        torch.testing.assert_close(p, q)
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(masked.optimizer.state[p][key], listed.optimizer.state[q][key])


def test_adjacent_layers_reset_at_once_are_both_whole(build):
    learner, _ = build()
    first, second = learner.hidden_layers
    resets = [reset_of(first, [0, 1]), reset_of(second, [2])]
    reset_units(learner.optimizer, resets)
    assert (second.incoming.weight[:, [0, 1]] == 0).all()
    torch.testing.assert_close(second.incoming.weight[2, 2:], resets[1].incoming["weight"][0, 2:])
    assert (learner.net.head.weight[:, 2] == 0).all()


@pytest.mark.parametrize("options", [{}, {"activation": "crelu"}, {"layer_norm": True}])
def test_handing_over_the_mean_keeps_the_mean_input_of_the_readers(options, build):
    learner, task = build(net_options=options)
    x, _ = task.reference(48)
    layer, reader = learner.hidden_layers[1], learner.net.head
    recorded = []
    handle = layer.activation.register_forward_hook(lambda module, inputs, output: recorded.append(output.detach()))
    before = learner.net(x).mean(0)
    handle.remove()
    means = recorded[0].mean(0).view(layer.expansion, layer.units)
    with torch.no_grad():
        removed = layer.outgoing_weight(reader)[:, :, [1, 4], 0]
        expected = reader.bias + torch.einsum("oek,ek->o", removed, means[:, [1, 4]])
    reset_units(learner.optimizer, [reset_of(layer, [1, 4], means=means[:, [1, 4]])])
    torch.testing.assert_close(reader.bias, expected)
    if not options.get("layer_norm"):
        torch.testing.assert_close(learner.net(x).mean(0), before, atol=1e-6, rtol=1e-5)


def test_handing_over_through_pooling_and_kernels(build):
    """A constant map hands over exactly: max-pooling, then all positions of a kernel or of flattened maps."""
    learner, task = build(net="convnet")
    x, _ = task.reference(16)
    for layer in resettable(learner)[:2]:
        with torch.no_grad():
            layer.incoming.weight[1] = 0
            layer.incoming.bias[1] = 0.7
        before = learner.net(x)
        reset_units(learner.optimizer, [reset_of(layer, [1], means=torch.full((1, 1), 0.7))])
        torch.testing.assert_close(learner.net(x), before, atol=1e-5, rtol=1e-5)


def test_units_of_a_residual_stream_are_left_alone(build):
    learner, _ = build(net="resnet18")
    assert [layer.name for layer in resettable(learner)] == [
        "stage0.block0.inner",
        "stage1.block0.inner",
    ]
