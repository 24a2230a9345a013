"""Every shipped supervised config that carries a published method's name, against the table of published values."""

from pathlib import Path

import pytest
import torch
from published_l2_init import (
    CIFAR_INPUTS,
    FIVE,
    KUMAR_PERMUTED,
    LABELS,
    MNIST_INPUTS,
    SMALL_CNN,
    SMALL_MLP,
)
from published_l2_init import TABLE as L2_INIT
from published_values import TABLE as DOHARE
from published_values import Sweep

import lop
from lop.algos.cbp import CBP
from lop.nets import NETS
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.plan import make_config
from lop.training.learner import Learner

PACKAGE = Path(lop.__file__).parent
TABLE = DOHARE | L2_INIT


def settings(config) -> dict:
    """The resolved config as {"section.option": value}, interventions by name."""
    found = {f"metrics.{key}": value for key, value in config.metrics.items()}
    for section in ("benchmark", "net", "optimizer"):
        part = getattr(config, section)
        found |= {f"{section}.name": part.name} | {f"{section}.{key}": v for key, v in part.options.items()}
    for part in config.algos:
        found[f"algos.{part.name}.name"] = part.name
        found |= {f"algos.{part.name}.{key}": value for key, value in part.options.items()}
    return found


def plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_published_name_has_the_published_values(name):
    ours = settings(make_config(PACKAGE / f"{name}.json"))
    wrong = {}
    for key, published in TABLE[name].items():
        value = ours.get(key, "absent")
        right = value in published if isinstance(published, Sweep) else plain(value) == plain(published)
        if not right:
            wrong[key] = (value, published)
    assert not wrong
    methods = {key.split(".")[1] for key in TABLE[name] if key.startswith("algos.")} | {"bp"}
    assert {key.split(".")[1] for key in ours if key.startswith("algos.")} <= methods  # and nothing beside it


OURS = ("secondorder_", "ewc", "l2_init_ewc", "huber_init", "hybrid_init", "snr", "bp_batch_32")
OURS_ALONE = {"imagenet/cfg/linear"}  # published, but without its settings


def test_every_config_is_published_or_known_as_ours():
    """Those of this project or without published strengths run on the published stream and net all the same."""
    folders = ("permuted_mnist/cfg", "permuted_mnist/cfg/l2_init", "imagenet/cfg", "slowly_changing_regression/cfg")
    folders += ("random_labels/cfg/mnist", "random_labels/cfg/cifar", "five_plus_one/cfg")
    for folder in folders:
        for path in (PACKAGE / folder).glob("*.json"):
            name = f"{folder}/{path.stem}"
            assert name in TABLE or path.stem.startswith(OURS) or name in OURS_ALONE
    for folder, stream, net in (
        ("permuted_mnist/cfg/l2_init", KUMAR_PERMUTED, SMALL_MLP),
        ("random_labels/cfg/mnist", LABELS | MNIST_INPUTS, SMALL_MLP),
        ("random_labels/cfg/cifar", LABELS | CIFAR_INPUTS, SMALL_CNN),
        ("five_plus_one/cfg", FIVE, SMALL_CNN),
    ):
        for path in (PACKAGE / folder).glob("*.json"):
            ours = settings(make_config(path))
            if f"{folder}/{path.stem}" not in TABLE:
                assert {key: plain(ours[key]) for key in stream | net} == {
                    k: plain(v) for k, v in (stream | net).items()
                }


def parameters(name: str, *, shape, outputs: int) -> int:
    config = make_config(PACKAGE / f"{name}.json")
    return sum(p.numel() for p in NETS[config.net.name](shape, outputs, **config.net.options).parameters())


@pytest.mark.parametrize(
    ("folder", "shape", "outputs", "plain_count", "crelu_count"),
    [
        ("random_labels/cfg/mnist", (1, 28, 28), 10, 89_610, 89_918),
        ("random_labels/cfg/cifar", (3, 32, 32), 10, 58_842, 58_459),
        ("five_plus_one/cfg", (3, 32, 32), 100, 67_932, 68_407),
    ],
)
def test_crelu_has_about_the_parameters_of_the_plain_net(folder, shape, outputs, plain_count, crelu_count):
    """Counted by hand from the layers' sizes; twice the features per unit would add 12% to the MLP."""
    assert parameters(f"{folder}/bp", shape=shape, outputs=outputs) == plain_count
    assert parameters(f"{folder}/crelu", shape=shape, outputs=outputs) == crelu_count


def test_continual_backpropagation_replaces_in_all_seventeen_layers():
    section = make_config(PACKAGE / "incremental_cifar/cfg/continual_backpropagation.json").net
    net = NETS[section.name]((3, 8, 8), 10, **section.options | {"width": 4})
    generator = torch.Generator().manual_seed(0)
    initialise_(net, generator)
    layers = net.hidden_layers()
    cbp = CBP(replacement_rate=0.25, maturity_threshold=0)
    learner = Learner(net, get_optimizer("sgd", net, lr=0.0), [cbp])
    before = [layer.incoming.weight.detach().clone() for layer in layers]
    for _ in range(2):  # a unit is mature when its age exceeds the threshold
        learner.learn(torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6))
    assert len(layers) == 17
    for layer, weight in zip(layers, before, strict=True):
        drawn_anew = (layer.incoming.weight != weight).flatten(1).any(1)
        silent = layer.outgoing_weight(layer.outgoing[0]).abs().sum((0, 1, 3)) == 0
        assert silent.sum() >= layer.units // 4
        assert drawn_anew[silent].all()
