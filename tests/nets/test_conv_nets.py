from itertools import pairwise

import pytest
import torch
from torch import nn

from lop.nets import CNN, NETS, ConvNet, FeatureRecorder, ResNet18
from lop.nets.init import initialise_
from lop.nets.ltu import LTUNet
from lop.utils.errors import UserError


def build(cls, shape=(3, 32, 32), outputs=7, **options):
    net = cls(shape, outputs, **options)
    initialise_(net, torch.Generator().manual_seed(0))
    return net


SMALL_RESNET = {"width": 4, "blocks": [1, 1]}
CASES = [
    (ConvNet, {}),
    (ConvNet, {"activation": "crelu", "channels": [4, 6], "kernel_sizes": [5, 3], "hidden": [9]}),
    (CNN, {}),
    (CNN, {"layer_norm": True}),
    (CNN, {"hidden": []}),
    (ResNet18, SMALL_RESNET),
]


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_features_are_recorded_in_the_described_shapes(cls, options):
    net = build(cls, **options)
    layers = net.hidden_layers()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with FeatureRecorder(layers) as recorder:
        assert net(x).shape == (3, 7)
    for layer, features in zip(layers, recorder.features, strict=True):
        assert features.shape[:2] == (3, layer.units * layer.expansion)
    assert len({id(layer.activation) for layer in layers}) == len(layers)
    assert net.output_layer().weight.shape[0] == 7


@pytest.mark.parametrize(("cls", "options"), [case for case in CASES if not case[1].get("layer_norm")])
def test_a_unit_reaches_the_outputs_through_its_outgoing_weights_alone(cls, options):
    """With a unit's outgoing weights at zero, the outputs do not depend on the unit."""
    net = build(cls, **options).eval()
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for layer in net.hidden_layers():
        if not layer.outgoing:
            continue
        for module in layer.outgoing:
            view = layer.outgoing_weight(module)
            assert view.shape[1:3] == (layer.expansion, layer.units)
            with torch.no_grad():
                view[:, :, 1] = 0
        before = net(x)
        with torch.no_grad():
            layer.incoming.weight[1] += 3
            layer.incoming.bias[1] -= 2
        assert torch.equal(net(x), before)
        with torch.no_grad():
            layer.incoming.weight[0] += 3
        assert not torch.equal(net(x), before)


def test_continual_imagenets_net():
    net = build(ConvNet, outputs=2)
    shapes = [tuple(layer.incoming.weight.shape) for layer in net.hidden_layers()]
    assert shapes == [(32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (128, 512), (128, 128)]
    assert tuple(net.output_layer().weight.shape) == (2, 128)


def test_l2_inits_net():
    shapes = [tuple(layer.incoming.weight.shape) for layer in build(CNN).hidden_layers()]
    assert shapes == [(16, 3, 5, 5), (16, 16, 5, 5), (100, 400), (100, 100)]


def test_resnet18_is_torchvisions_but_for_the_stem_and_the_biases():
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=100)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    ours = build(ResNet18, outputs=100)
    # torchvision orders a block's modules conv1, bn1, conv2, bn2, downsample; so do we
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    mine = [m for m in ours.modules() if isinstance(m, kinds)]
    other = [m for m in theirs.modules() if isinstance(m, kinds)]
    assert [type(m) for m in mine] == [type(m) for m in other]
    for target, source in zip(other, mine, strict=True):
        target.weight = source.weight
        if isinstance(source, nn.Conv2d):
            assert (source.bias == 0).all()
        else:
            target.bias = source.bias
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert len(ours.hidden_layers()) == 17
    weight = ours.hidden_layers()[1].incoming.weight
    assert abs(weight.std() / (2 / (64 * 9)) ** 0.5 - 1) < 0.02  # Kaiming-normal


def test_residual_units_have_the_next_layer_as_reader_where_asked():
    """Dohare et al. 2024 replace units of all 17 convolutions of the main path; 8 of them without the option."""
    assert sum(bool(layer.outgoing) for layer in build(ResNet18, width=2).hidden_layers()) == 8
    net = build(ResNet18, width=2, residual_readers="next")
    layers = net.hidden_layers()
    assert len(layers) == 17
    for layer, following in pairwise(layers):
        assert layer.outgoing == (following.incoming,)
    assert layers[-1].outgoing == (net.head,)
    assert not any(layer.incoming.kernel_size == (1, 1) for layer in layers)  # the shortcuts are not layers
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with FeatureRecorder(layers) as recorder:
        outputs = net.eval()(x)
    read = layers[-1].as_read(recorder.features[-1])
    assert torch.equal(net.head(read), outputs)


def test_resnet_layers_compute_what_they_say():
    net = build(ResNet18, **SMALL_RESNET)
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with FeatureRecorder(net.hidden_layers()) as recorder:
        net(x)
    stem, inner, out, *_ = net.hidden_layers()
    features = recorder.features
    torch.testing.assert_close(features[0], torch.relu(stem.norm(stem.incoming(x))))
    torch.testing.assert_close(features[1], torch.relu(inner.norm(inner.incoming(features[0]))))
    torch.testing.assert_close(features[2], torch.relu(out.norm(out.incoming(features[1])) + features[0]))
    assert inner.outgoing == (out.incoming,)
    assert stem.outgoing == out.outgoing == ()


@pytest.mark.parametrize(
    ("name", "shape", "options", "words"),
    [
        ("convnet", (64,), {}, "needs images"),
        ("resnet18", (64,), {}, "needs images"),
        ("convnet", (1, 8, 8), {}, "kernel_sizes .* leave nothing"),
        ("cnn", (3, 32, 32), {"channels": [8]}, "^kernel_sizes must have"),
        ("cnn", (3, 32, 32), {"channels": [8, 0]}, r"^channels\[1\] must be"),
        ("resnet18", (3, 32, 32), {"width": 0}, "^width must be"),
        ("resnet18", (3, 32, 32), {"blocks": []}, "^blocks must"),
        ("resnet18", (3, 32, 32), {"activation": "crelu"}, "^activation must"),
    ],
)
def test_bad_options(name, shape, options, words):
    with pytest.raises(UserError, match=words):
        NETS[name](shape, 10, **options)


@pytest.mark.parametrize("half_bias", [False, True])
def test_the_ltu_net_unit_by_unit(half_bias):
    net = LTUNet(6, 9, torch.Generator().manual_seed(3), beta=0.6, half_bias=half_bias)
    assert set(net.weight.unique().tolist()) == set(net.bias.unique().tolist()) == {-1.0, 1.0}
    x = torch.tensor([[(i >> b) & 1 for b in range(6)] for i in range(64)]).float()
    for row, y in zip(x.tolist(), net(x)[:, 0].tolist(), strict=True):
        total = net.out_bias.item()
        for i in range(9):
            weights, bias = net.weight[i].tolist(), net.bias[i].item()
            negative = sum(w < 0 for w in weights) + (0.5 * bias if half_bias else 0)
            field = bias + sum(w * v for w, v in zip(weights, row, strict=True))
            total += net.out_weight[0, i].item() * (field > 0.6 * 7 - negative)
        assert y == total


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (64,), {"hidden": [50, 40], "init": "torch_default"}),
        ("cnn", (3, 32, 32), {}),
        ("convnet", (3, 32, 32), {}),
    ],
)
def test_torch_default_draws_as_torchs_layers_do(name, shape, options):
    """Weights and biases uniform in +-1/sqrt(fan_in), as nn.Linear and nn.Conv2d draw them themselves."""
    net = build(NETS[name], shape=shape, **options)
    modules = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(modules) == len(net.hidden_layers()) + 1
    for ours in modules:
        torch.manual_seed(0)
        if isinstance(ours, nn.Linear):
            theirs = nn.Linear(ours.in_features, ours.out_features)
        else:
            theirs = nn.Conv2d(ours.in_channels, ours.out_channels, ours.kernel_size)
        bound = ours.weight[0].numel() ** -0.5
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert p.abs().max() <= bound
            assert q.abs().max() <= bound
        for p in (ours.weight, theirs.weight):
            assert p.abs().max() > 0.97 * bound
            assert p.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
