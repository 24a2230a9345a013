"""Units whose readers are not all known are never reset: each way to read them that is no plain layer's."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lop.nets.describe
from lop.nets import FeatureRecorder
from lop.nets.describe import describe
from lop.utils.errors import UserError


@pytest.fixture
def structure_alone(monkeypatch):
    """What is found by watching, without the test that comes after it."""
    monkeypatch.setattr(lop.nets.describe, "showing", lambda *args: [])


class Net(nn.Module):
    """a -> relu -> b -> relu -> head, and whatever `also` makes of it. The layers have 6 units."""

    def __init__(self, also, norm=None):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.also, self.norm = also, norm or nn.Identity()
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        h = F.relu(self.norm(self.a(x)))
        g = F.relu(self.b(h))
        return self.also(self, h, g, self.head(g))


def written(net, h, g, out):
    buffer = torch.zeros(len(h), 8)
    buffer[:, 1:7] = h
    return out + buffer.sum(1, keepdim=True)


def written_through_a_view(net, h, g, out):
    held = h.view(-1)
    held.mul_(2)
    return out + net.out(h)


class Keywords(nn.Module):
    def forward(self, x, other=None):
        return x + other


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(2 * x.numpy())

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def function_of(h):
    return torch.vmap(lambda row: row.sum())(h)[:, None]


READERS = {
    "a transposed weight": ("b", lambda n, h, g, o: o + F.linear(g, n.b.weight.t()).sum(1, keepdim=True), "t reads"),
    "a penalty": ("a", lambda n, h, g, o: o + n.a.weight.norm(), "norm reads its parameters"),
    "a bias": ("a", lambda n, h, g, o: o + n.a.bias.sum(), "sum reads its parameters"),
    "a reader's weight": (
        "b",
        lambda n, h, g, o: o + F.linear(h, n.head.weight),
        "linear reads the parameters of head",
    ),
    "a called layer": ("a", lambda n, h, g, o: o + F.linear(g, n.a.weight.t()).sum(1, keepdim=True), "t reads its"),
    "item": ("a", lambda n, h, g, o: o * h.mean().item(), "read by item"),
    "tolist": ("a", lambda n, h, g, o: o + h.tolist()[0][0], "read by tolist"),
    "setitem": ("a", written, "read by setitem"),
    "a view": ("a", written_through_a_view, "read by mul"),
    "a computed bias": ("a", lambda n, h, g, o: o + F.linear(torch.ones(1, 6), n.out.weight[:1], h[:1, 0]), "read by"),
    "keywords": ("a", lambda n, h, g, o: n.also_called(g, other=h).sum(1, keepdim=True) + o, "read by Keywords"),
    "vmap": ("a", lambda n, h, g, o: o + function_of(h), "cannot be watched"),
    "autograd function": ("a", lambda n, h, g, o: o + net_sum(Doubled.apply(h)), "read by numpy"),
    "scripted": ("a", lambda n, h, g, o: o + n.scripted(h), "cannot be watched"),
    "an attention": ("a", lambda n, h, g, o: o + F.softmax(h, 1).sum(1, keepdim=True) * h[:, :1], "read by"),
}


def net_sum(h):
    return h.sum(1, keepdim=True)


@pytest.mark.parametrize("case", READERS)
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_whoever_reads_beside_the_layers_is_seen(case, structure_alone):
    name, also, reason = READERS[case]
    net = Net(also)
    net.also_called = Keywords()
    if case == "scripted":
        net.scripted = torch.jit.script(nn.Linear(6, 3))
    found = describe(net, torch.randn(4, 5))
    assert reason in found.not_reset[name]
    plain = describe(Net(lambda n, h, g, o: o), torch.randn(4, 5))
    assert plain.not_reset == {}
    assert [len(layer.outgoing) for layer in plain.hidden_layers()] == [1, 1]
    if case == "scripted":
        assert found.undescribed["scripted"].startswith("it is scripted")


def test_what_no_function_shows_is_found_by_a_test():
    """A number that is read from the weight's memory, past torch."""
    net = Net(lambda n, h, g, o: o + float(n.seen.sum()))
    net.seen = net.a.weight.detach().numpy()
    found = describe(net, torch.randn(4, 5))
    assert found.not_reset == {"a": "a change of its units shows in the outputs past the layers that read it"}


def test_indices_of_maxima_are_read_as_well(structure_alone):
    class Unpooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(64, 2)

        def forward(self, x):
            h, indices = F.max_pool2d(F.relu(self.a(x)), 2, return_indices=True)
            return self.head(F.max_unpool2d(self.b(h), indices, 2).flatten(1))

    assert "read by max_pool2d" in describe(Unpooled(), torch.randn(2, 1, 4, 4)).not_reset["a"]


@dataclass
class Output:
    logits: torch.Tensor


def test_outputs_are_found_in_plain_objects_and_asked_for():
    found = describe(Net(lambda n, h, g, o: Output(o)), torch.randn(4, 5))
    assert found.output_layer() is found.model.head
    with pytest.raises(UserError, match="found no tensor that depends on the example in what the model returns"):
        describe(Net(lambda n, h, g, o: 1.0), torch.randn(4, 5))


class Drawing(nn.Module):
    """An activation that counts, draws, and keeps a number of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.seen = 0

    def forward(self, x):
        self.calls += 1
        self.seen += 1
        if self.training:
            return x.relu() + torch.rand(())
        return x.relu()


def test_describing_leaves_the_model_and_its_surroundings_as_they_were():
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), Drawing(), nn.Dropout(0.5), nn.Linear(6, 3))
    net[3].eval()
    x = torch.randn(4, 5)
    waiting = net(x).sum()
    state, drawn = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    modes, seen, memory = [m.training for m in net.modules()], net[2].seen, [b.data_ptr() for b in net.buffers()]
    (layer,) = describe(net, x).hidden_layers()
    assert layer.activation is net[2]
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert ([m.training for m in net.modules()], net[2].seen, [b.data_ptr() for b in net.buffers()]) == (
        modes,
        seen,
        memory,
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    waiting.backward()  # its graph is still good


def test_features_are_what_the_activation_gave_whatever_is_done_in_place_after_it():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True)

        def forward(self, x):
            x = F.relu(self.a(x)).add_(1)
            x = self.drop(self.relu(self.b(x)))
            return self.head(self.relu(self.c(x)).mul_(2))

    net, x = InPlace(), torch.randn(4, 5)
    layers = describe(net, x).hidden_layers()
    assert [layer.overwritten for layer in layers] == [True, True, True]
    recorder = FeatureRecorder(layers)
    net.eval()
    with recorder:
        net(x)
    a = net.a(x).relu()
    b = net.b(a + 1).relu()
    for features, expected in zip(recorder.features, (a, b, net.c(b).relu()), strict=True):
        assert torch.equal(features, expected)
    net.train()
    net.drop.p = 1.0
    with recorder:
        net(x)
    assert torch.equal(recorder.features[1], b)


def test_an_activation_of_ones_own_may_be_called_for_every_layer():
    class Swish(nn.Module):
        def forward(self, x):
            return x * x.sigmoid()

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head, self.act = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 3), Swish()

        def forward(self, x):
            return self.head(self.act(self.b(self.act(self.a(x)))))

    net, x = Shared(), torch.randn(4, 5)
    layers = describe(net, x).hidden_layers()
    assert [layer.outgoing for layer in layers] == [(net.b,), (net.head,)]
    recorder = FeatureRecorder(layers)
    for _ in range(2):
        with recorder:
            net(x)
    first = F.silu(net.a(x))
    assert torch.allclose(recorder.features[0], first)
    assert torch.allclose(recorder.features[1], F.silu(net.b(first)))


def test_an_auxiliary_head_that_runs_in_training_alone_is_a_reader():
    class Auxiliary(Net):
        def forward(self, x):
            h = self.norm(F.relu(self.a(x)))
            if self.training:
                return self.head(F.relu(self.b(h))) + F.relu(self.out(h))
            return self.head(F.relu(self.b(h)))

    found = describe(Auxiliary(None), torch.randn(4, 5))
    assert found.not_reset == {"a": "in training, others read it than in evaluation"}

    class Shifted(Net):
        def forward(self, x):
            extra = F.relu(x).sum() if self.training else 0.0
            return self.head(F.relu(self.a(x))) + extra

    found = describe(Shifted(None), torch.randn(4, 5))
    assert found.hidden_layers() == []
    assert found.undescribed["a"].startswith("in training, another operation is its activation")


def test_units_stay_where_they_are_up_to_the_activation():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 1), nn.Linear(64, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(x).transpose(1, 2)).flatten(1))

    assert describe(Turned(), torch.randn(2, 1, 4, 4)).undescribed["conv"].startswith("its outputs are moved")

    class OverTokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.head = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(F.relu(self.norm(self.a(x))))

    assert "no numbers of its own" in describe(OverTokens(), torch.randn(3, 6, 5)).undescribed["a"]


def test_a_layer_norm_couples_units_and_says_so():
    """A reset moves the others by the shared mean and variance, and by nothing else."""
    found = describe(Net(lambda n, h, g, o: o, norm=nn.LayerNorm(6)), torch.randn(4, 5))
    first, second = found.hidden_layers()
    assert (first.is_coupled, second.is_coupled) == (True, False)
    assert found.not_reset == {}
    assert found.report().splitlines()[0] == "a: 6 units, read by 1; LayerNorm couples them"
    net, x = found.model, torch.randn(4, 5)
    with torch.no_grad():
        first.outgoing_weight(net.b)[:, :, 0] = 0
        before = net(x)
        net.a.weight[0] += 1
        assert not torch.allclose(before, net(x), atol=1e-3)
    assert not describe(Net(lambda n, h, g, o: o, norm=nn.BatchNorm1d(6)), x).hidden_layers()[0].is_coupled


def test_what_cannot_be_watched_is_said_in_one_line():
    net, x = Net(lambda n, h, g, o: o), torch.randn(4, 5)
    lazy = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 3))
    compiled = nn.Module()  # as torch.compile makes one: to import the compiler takes longer than all tests here
    compiled.add_module("_orig_mod", net)
    for model, message in (
        (nn.DataParallel(net), "the model is a DataParallel: give what it wraps, its `module`"),
        (compiled, "the model is compiled, .* `_orig_mod`"),
        (lazy, r"0\.\w+ is made by the model's first call: call it once"),
        (nn.Sequential(nn.Linear(5, 3, device="meta")), r"0\.weight is on the meta device and has no values"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            describe(model, x)
        assert "\n" not in str(caught.value)


def test_traps_of_sharing_and_of_precision():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.a, self.out = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7)
            self.out.weight = self.embedding.weight
            self.conv = nn.Conv1d(6, 6, 1)

        def forward(self, tokens):
            return self.out(F.relu(self.a(self.embedding(tokens)))) + self.conv(torch.ones(1, 6, 1)).sum()

    found = describe(Tied(), torch.zeros(4, 3, dtype=torch.long))
    assert found.not_reset == {"a": "its features are read by linear"}
    assert found.undescribed["out"] == "its weight or bias belongs to several modules"
    assert found.undescribed["conv"] == "it is a Conv1d, neither Linear nor Conv2d"

    half = describe(Net(lambda n, h, g, o: o).half(), torch.randn(4, 5).half())
    assert [len(layer.outgoing) for layer in half.hidden_layers()] == [1, 1]

    twice = describe(Net(lambda n, h, g, o: o + n.head(F.relu(n.b(g)))), torch.randn(4, 5))
    assert twice.undescribed["b"] == "it is used 2 times in a forward pass"
    assert twice.not_reset == {"a": "b, which reads it, is used several times"}


def test_what_cannot_be_overwritten_with_a_graph_is_watched_without_one():
    class Halved(Net):
        def forward(self, x):
            left, _ = x.chunk(2, 1)
            left.mul_(2)
            return super().forward(x)

    x = torch.randn(4, 5)
    given = x.clone()
    assert describe(Halved(lambda n, h, g, o: o), x).not_reset == {}
    assert torch.equal(x, given)


def test_views_that_have_lost_their_graph_are_no_obstacle():
    class Split(Net):
        def forward(self, x):
            h = F.relu(self.a(x))
            left, _ = h.chunk(2, 1)
            h.add_(1)
            del left
            return self.head(F.relu(self.b(h)))

    assert describe(Split(None), torch.randn(4, 5)).not_reset == {"a": "its features are read by chunk"}
