"""Hidden layers found by watching: as the project's nets describe them, and true of torchvision's by perturbation."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from lop.nets import CNN, MLP, ActorCritic, ConvNet, FeatureRecorder, ResNet18
from lop.nets.activations import ACTIVATIONS
from lop.nets.describe import describe
from lop.nets.init import fresh_parameters, initialise_
from lop.nets.tracing import trace
from lop.utils.errors import UserError

OWN = [(MLP, (1, 8, 8), {"hidden": (12, 13), "activation": name}) for name in ACTIVATIONS]
OWN += [(MLP, (5,), {"hidden": (12,), "layer_norm": True}), (ActorCritic, (11,), {"hidden": (7, 7)})]
OWN += [(ConvNet, (3, 32, 32), {"channels": (4, 5, 6), "hidden": (7, 8), "layer_norm": norm}) for norm in (False, True)]
OWN += [(CNN, (3, 32, 32), {"channels": (4, 5), "activation": "crelu"})]
OWN += [(CNN, (3, 32, 32), {"channels": (4, 5), "conv_activation": "linear"})]
OWN += [(ResNet18, (3, 32, 32), {"width": 4, "blocks": (2, 1)})]


def facts(layer):
    modules = (layer.incoming, layer.norm, layer.activation, layer.pooling, *layer.outgoing)
    return (*map(id, modules), layer.expansion, layer.units_last)


@pytest.mark.parametrize(("kind", "shape", "options"), OWN, ids=lambda v: getattr(v, "__name__", str(v)))
def test_it_finds_what_the_projects_nets_say_of_themselves(kind, shape, options):
    net = kind(shape, 3, **options)
    initialise_(net, torch.Generator().manual_seed(0))
    found = describe(net, torch.randn(2, *shape))
    assert sorted(map(facts, found.hidden_layers())) == sorted(map(facts, net.hidden_layers()))
    assert set(map(id, found.output_layers())) == set(map(id, net.output_layers()))


def small_vit():
    net = torchvision.models.vit_b_16(image_size=32, num_classes=4)
    net.encoder.layers = nn.Sequential(*list(net.encoder.layers)[:2])  # more are the same again
    return net


def narrow_vgg():
    net = torchvision.models.vgg11_bn(num_classes=4)
    net.classifier[0], net.classifier[3], net.classifier[6] = nn.Linear(25088, 40), nn.Linear(40, 30), nn.Linear(30, 4)
    return net


TORCHVISION = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=4), 17, 8),
    "vgg11_bn": (narrow_vgg, 10, 10),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=4), 42, 13),
    "convnext_tiny": (lambda: torchvision.models.convnext_tiny(num_classes=4), 18, 18),
    "vit_b_16": (small_vit, 2, 2),
}


@pytest.fixture(scope="module", params=TORCHVISION)
def described(request):
    make, layers, resettable = TORCHVISION[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make()
        x = torch.randn(2, 3, 32, 32)
    net.eval()
    return describe(net, x), x, layers, resettable


def test_torchvisions_nets_have_sensible_layers(described):
    found, _, layers, resettable = described
    assert len(found.hidden_layers()) == layers
    assert sum(bool(layer.outgoing) for layer in found.hidden_layers()) == resettable
    assert len(found.output_layers()) == 1
    said = {layer.name for layer in found.hidden_layers()} | set(found.undescribed)
    weights = {name for name, m in found.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert weights - said == {name for name, m in found.model.named_modules() if m in found.output_layers()}
    assert set(found.not_reset) == {layer.name for layer in found.hidden_layers() if not layer.outgoing}


def read_inputs(net, x):
    """What every Linear and Conv2d reads, and the outputs."""
    seen, handles = {}, []
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            handles.append(module.register_forward_pre_hook(lambda m, i, n=name: seen.update({n: i[0].detach()})))
    with torch.no_grad():
        out = net(x)
    for handle in handles:
        handle.remove()
    return seen, out


def test_a_unit_changes_what_its_readers_read_of_it_and_nothing_else(described):
    """With its outgoing weights at zero a unit's reset is invisible in the outputs."""
    found, x, *_ = described
    net = found.model
    name_of = {module: name for name, module in net.named_modules()}
    chosen = [layer for layer in found.hidden_layers() if layer.outgoing]
    for layer in (chosen[0], chosen[len(chosen) // 2], chosen[-1]):
        unit = layer.units // 3
        kept = {k: v.clone() for k, v in net.state_dict().items()}
        with torch.no_grad():
            for reader in layer.outgoing:
                layer.outgoing_weight(reader)[:, :, unit] = 0
            before, out = read_inputs(net, x)
            layer.incoming.weight[unit] += 3 * torch.randn(layer.incoming.weight[unit].shape)
            if layer.incoming.bias is not None:
                layer.incoming.bias[unit] += 5
            after, changed = read_inputs(net, x)
        assert torch.equal(out, changed)
        different = {name for name in before if not torch.equal(before[name], after[name])}
        assert different == {name_of[reader] for reader in layer.outgoing}
        for reader in layer.outgoing:
            gap = (before[name_of[reader]] - after[name_of[reader]]).abs()
            gap = gap.movedim(1, -1) if isinstance(reader, nn.Conv2d) else gap
            columns = gap.reshape(-1, gap.shape[-1]).amax(0).view(layer.units, -1).amax(1)
            assert columns.nonzero().flatten().tolist() == [unit]
        net.load_state_dict(kept)


def test_features_are_the_activations_wherever_they_are_computed(described):
    found, x, *_ = described
    layers = found.hidden_layers()
    recorder = FeatureRecorder(layers)
    with torch.no_grad(), recorder:
        found(x)
    recorder.close()
    inputs, _ = read_inputs(found.model, x)
    name_of = {module: name for name, module in found.model.named_modules()}
    for layer, features in zip(layers, recorder.features, strict=True):
        assert features.shape[:2] == (len(x), layer.units)
        if layer.outgoing:
            read = inputs[name_of[layer.outgoing[0]]]
            seen = layer.as_read(features)
            seen = seen.movedim(1, -1) if layer.units_last else seen
            assert torch.equal(seen.reshape(read.shape), read)


class Odd(nn.Module):
    """Functional activations, one ReLU for two layers, a shared layer, a tied weight, units read twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.twice, self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8)
        self.right.weight = self.tied.weight
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(16, 3)

    def forward(self, x, scale=1.0):
        a = self.relu(self.first(x))
        b = torch.tanh(self.second(a))
        c = self.relu(self.third(b))
        d = torch.relu(self.twice(torch.relu(self.twice(c))))
        e = F.gelu(self.left(d)) * scale
        f = self.right(F.silu(self.tied(e)))
        return self.head(torch.cat((f.flip(1), e), 1))


def test_hard_cases_are_measured_and_never_reset_and_the_reason_is_said():
    net, x = Odd(), torch.randn(5, 6)
    net.train()
    found = describe(net, x)
    assert all(module.training for module in net.modules())
    layers = {layer.name: layer for layer in found.hidden_layers()}
    assert list(layers) == ["first", "second", "third", "left"]
    assert layers["first"].outgoing == (net.second,)
    assert layers["second"].outgoing == (net.third,)
    assert found.not_reset == {
        "third": "twice, which reads it, is used several times",
        "left": "its features are read by mul",
    }
    assert found.undescribed["twice"] == "it is used 2 times in a forward pass"
    assert found.undescribed["right"] == found.undescribed["tied"] == "its weight or bias belongs to several modules"
    recorder = FeatureRecorder(found.hidden_layers())
    with recorder:
        found(x)
    first = net.first(x).relu()
    second = net.second(first).tanh()
    third = net.third(second).relu()
    for features, expected in zip(recorder.features, (first, second, third), strict=False):
        assert torch.equal(features, expected)
    assert "left: 8 units, never reset: its features are read by mul" in found.report()


class Mixed(nn.Module):
    """Between features and reader lies what only looks harmless."""

    def __init__(self, between):
        super().__init__()
        self.conv, self.head, self.between = nn.Conv2d(1, 4, 3), nn.Linear(16, 2), between

    def forward(self, x):
        return self.head(self.between(F.relu(self.conv(x))))


@pytest.mark.parametrize(
    ("between", "known"),
    [
        (lambda f: f.flatten(1), True),
        (lambda f: F.dropout(f.reshape(len(f), -1)), True),
        (lambda f: f.permute(0, 2, 3, 1).flatten(1), False),  # columns are ordered by position, then by unit
        (lambda f: f.flatten(2).transpose(1, 2).flatten(1), False),
        (lambda f: f.flatten(1).softmax(1), False),
        (lambda f: f.flatten(1).sort().values, False),
    ],
)
def test_columns_belong_to_units_or_the_layer_is_not_reset(between, known):
    found = describe(Mixed(between), torch.randn(2, 1, 4, 4))
    assert bool(found.hidden_layers()[0].outgoing) is known


def test_describing_leaves_no_trace_and_needs_an_example_that_fits():
    net = torchvision.models.resnet18(num_classes=4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    describe(net, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    with pytest.raises(UserError, match=r"^describe: the model does not run on the example: .*channels"):
        describe(net, torch.randn(2, 1, 32, 32))
    with pytest.raises(UserError, match="expected one Linear that computes the outputs, found 0"):
        describe(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(2, 3)).output_layer()


def test_fresh_units_are_distributed_as_the_net_was_found():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 400), nn.ReLU(), nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 2))
    with torch.no_grad():
        net[2].weight.normal_(0, 0.3, generator=generator)
        net[2].bias.zero_()
    bound = net[0].weight.abs().max().item()
    describe(net, torch.randn(2, 50))
    uniform = fresh_parameters(net[0], generator, units=300)["weight"]
    assert uniform.abs().max() <= 1.02 * bound
    assert uniform.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    normal = fresh_parameters(net[2], generator)
    assert normal["weight"].std().item() == pytest.approx(0.3, rel=0.02)
    assert normal["weight"].abs().max() > 0.9
    assert not normal["bias"].any()


def test_operations_are_seen_whatever_the_control_flow():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
                if x.sum().item() > -1e9:  # no symbolic trace can follow this
                    x = x.clamp(min=-5).sigmoid()
            return x

    traced = trace(Loop(), (torch.randn(2, 4),), lambda module: False)
    assert [op.name for op in traced.operations if op.parameters] == ["linear"] * 3
    assert [op.call for op in traced.operations if op.name == "sigmoid"] == [0, 1, 2]


def test_a_shared_norm_and_low_precision_are_not_taken_for_simple_layers():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(6, 8), nn.Linear(8, 3)
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x):
            return self.b(F.relu(self.norm(self.a(x)))) + self.d(F.relu(self.norm(self.c(x))))

    assert (
        describe(Shared(), torch.randn(4, 6)).undescribed["a"] == "its normalisation is used 2 times in a forward pass"
    )

    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 600), nn.Linear(600, 3)
            self.order = [*range(300), 301, 300, *range(302, 600)]

        def forward(self, x):
            return self.b(F.relu(self.a(x))[:, self.order])

    (layer,) = describe(Swapped().bfloat16(), torch.randn(2, 4).bfloat16()).hidden_layers()
    assert layer.outgoing == ()
