"""Nets by name from elsewhere, and a small transformer, in whole runs: with every optimizer and every intervention."""

import sys

import pytest
import torch
from generated_data import write_cifar
from torch import nn

from lop.algos import INTERVENTIONS
from lop.nets.describe import describe
from lop.nets.foreign import find_net, with_small_stem
from lop.nets.init import initialise_
from lop.nets.vit import ViT
from lop.plan import make_config
from lop.runner import run
from lop.utils.errors import UserError

SMALL_VIT = {"name": "vit", "patch": 4, "width": 12, "heads": 2, "blocks": 2, "hidden": 10}
OPTIMIZERS = ("sgd", "adam", "adahessian", "sophiah", "sophiag", "sassha", "msassha", "kfac", "shampoo", "sam", "asam")


@pytest.fixture
def train(tmp_path):
    def train(net, optimizer="sgd", algos=(), **overrides):
        small = {"benchmark.num_tasks": 2, "benchmark.epochs": 1, "benchmark.examples_per_task": 48}
        small |= {"net": net, "optimizer.lr": 0.01, "run.results_dir": str(tmp_path), "run.diagnostics": False}
        config = make_config(benchmark="permuted_digits", optimizer=optimizer, algos=algos, overrides=small | overrides)
        return run(config, summaries=False)

    return train


def test_the_transformer_is_as_it_says():
    net = ViT((3, 8, 8), 5, **{k: v for k, v in SMALL_VIT.items() if k != "name"})
    initialise_(net, torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 8, 8)
    found = describe(net, x)
    hand = [(layer.incoming, layer.activation, layer.outgoing, layer.units_last) for layer in net.hidden_layers()]
    assert [(f.incoming, f.activation, f.outgoing, f.units_last) for f in found.hidden_layers()] == hand
    attention, tokens = net.blocks[0].attention, torch.randn(2, 7, 12)
    reference = nn.MultiheadAttention(12, 2, batch_first=True)
    with torch.no_grad():
        parts = (attention.queries, attention.keys, attention.values)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(attention.out.state_dict())
        assert torch.allclose(attention(tokens), reference(tokens, tokens, tokens)[0], atol=1e-6)
    assert sum(p.numel() for p in ViT((3, 32, 32), 100).parameters()) == 1_823_524


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_trains_with_every_optimizer(optimizer, train):
    result = train(SMALL_VIT, optimizer)
    assert result.status == "finished"
    assert result.tasks["online_loss"].notna().all()


@pytest.mark.parametrize("algo", sorted(INTERVENTIONS))
def test_every_intervention_applies(algo, train):
    if algo == "early_stopping":  # no benchmark of small images without labels to spare has what it needs
        with pytest.raises(UserError, match="no validation split"):
            train(SMALL_VIT, "adam", [algo])
        return
    assert train(SMALL_VIT, "adam", [algo]).status == "finished"


def test_diagnostics_of_a_transformer_are_numbers(train):
    row = train(SMALL_VIT, "adam", **{"run.diagnostics": True}).tasks.iloc[-1]
    for name in ("eff_rank", "stable_rank", "dormant_proportion", "ntk_eff_rank", "ntk_churn"):
        assert torch.isfinite(torch.tensor(float(row[f"{name}_after"])))


def test_torchvisions_nets_train_by_name_from_the_runs_seed(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", classes=10, train=10)
    small = {"benchmark.num_tasks": 1, "benchmark.epochs": 1, "benchmark.num_examples": 4, "benchmark.batch_size": 2}
    small |= {"benchmark.verify": False, "net": {"name": "torchvision:mobilenet_v3_small"}, "run.diagnostics": False}

    def first_loss(seed, folder):
        torch.rand(seed + 1)  # whoever used the global numbers before does not matter
        where = {"run.results_dir": str(tmp_path / folder), "run.data_dir": str(tmp_path), "run.seed": seed}
        config = make_config(benchmark="random_label_cifar", optimizer="sgd", overrides=small | where)
        return run(config, summaries=False).tasks["online_loss"].iloc[0]

    first = first_loss(0, "a")
    assert first == first_loss(0, "b")
    assert first != first_loss(1, "c")


def test_a_small_stem_keeps_small_images_large():
    import torchvision

    net = with_small_stem(torchvision.models.resnet18(num_classes=3), (1, 32, 32))
    sizes = []
    net.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    assert sizes == [(32, 32)]


MINE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, *, width: int = 9):
        super().__init__()
        self.inner, self.head = nn.Linear(64, width), nn.Linear(width, num_outputs)

    def forward(self, x):
        return self.head(self.inner(x.flatten(1)).relu())
"""


def test_a_class_of_a_plugin_is_a_net_by_name(tmp_path, train):
    (tmp_path / "my_own_net.py").write_text(MINE)
    plugins = {"run.plugins": [str(tmp_path / "my_own_net.py")]}
    try:
        result = train({"name": "my_own_net:Net", "width": 7}, "sassha", ["cbp"], **plugins)
        assert result.status == "finished"
        for net, message in (
            ({"name": "my_own_net:Nett"}, r"net\.name: my_own_net has no net 'Nett'; did you mean 'Net'"),
            ({"name": "my_own_net:Net", "widht": 7}, r"net\.widht: unknown key; did you mean 'width'"),
            ({"name": "no_such_module:Net"}, r"net\.name: no_such_module:Net: No module named"),
        ):
            with pytest.raises(UserError, match=message):
                train(net, **plugins)
    finally:
        sys.modules.pop("my_own_net", None)


def test_unknown_names_have_near_matches():
    with pytest.raises(UserError, match="unknown torchvision net 'vgg11bn': did you mean"):
        find_net("torchvision:vgg11bn")
    with pytest.raises(UserError, match=r"unknown net .*did you mean 'mlp'"):
        find_net("mlpp")
