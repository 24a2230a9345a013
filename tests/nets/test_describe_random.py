"""Random small graphs: whatever `describe` says can be reset is reset unit by unit, and the outputs are watched."""

import random

import torch
from torch import nn
from torch.nn import functional as F

import lop.nets.describe
from lop.nets.describe import describe
from lop.nets.verifying import showing

STEPS = [
    "layer",
    "layer",
    "layer",
    "layer",
    "act",
    "add",
    "cat",
    "split",
    "turn",
    "again",
    "inplace",
    "norm",
    "pool",
    "weight",
    "mul",
    "order",
    "write",
    "item",
]
GRAPHS = 100


class Graph(nn.Module):
    """Layers in a row that often read the last two values, and between them whatever a net may do to a value."""

    def __init__(self, seed):
        super().__init__()
        draw = random.Random(seed)
        self.maps = draw.random() < 0.5
        self.layers, self.steps, self.widths = nn.ModuleList(), [], [2 if self.maps else 5]
        for _ in range(draw.randint(4, 10)):
            source = draw.randrange(max(0, len(self.widths) - 2), len(self.widths))
            self._add(draw, draw.choice(STEPS), source, self.widths[source])
        self.flat = self.maps and draw.random() < 0.5
        self.head = nn.Linear(self.widths[-1] * (25 if self.flat else 1), 3)

    def _add(self, draw, kind, source, width):
        alike = [i for i, w in enumerate(self.widths) if w == width]
        fitting = [i for i, layer in enumerate(self.layers) if layer[0].weight.shape[1] == width]
        if kind == "layer":
            self.layers.append(self._layer(draw, width, draw.choice((4, 6))))
            given, width = (len(self.layers) - 1, draw.choice(("", "relu", "relu_"))), len(self.layers[-1][0].weight)
        elif kind == "again" and fitting:
            given = (draw.choice(fitting), "relu")
            kind, width = "layer", len(self.layers[given[0]][0].weight)
        elif kind in ("add", "mul", "item"):
            given = (draw.choice(alike),)
        elif kind == "cat":
            other = draw.randrange(len(self.widths))
            given, width = (other,), width + self.widths[other]
        elif kind == "split" and width % 2 == 0:
            given, width = (draw.choice((0, 1)),), width // 2
        elif kind == "order":
            given = (draw.sample(range(width), width),)
        elif kind == "weight" and len(self.layers):
            given = (draw.randrange(len(self.layers)), draw.choice(("norm", "bias", "t")))
        elif kind in ("act", "turn", "inplace", "norm", "pool", "write"):
            given = (draw.random() < 0.5,)
        else:
            return
        self.steps.append((kind, source, *given))
        self.widths.append(width)

    def _layer(self, draw, width, units):
        maps = self.maps
        parts = [nn.Conv2d(width, units, 3, padding=1) if maps else nn.Linear(width, units)]
        if draw.random() < 0.4:
            norms = (
                nn.BatchNorm2d if maps else nn.BatchNorm1d,
                lambda n: nn.GroupNorm(2, n),
                lambda n: nn.GroupNorm(1, n),
            )
            parts.append(draw.choice(norms)(units))
        parts += [draw.choice((nn.ReLU, nn.Tanh))()] if draw.random() < 0.5 else []
        parts += [nn.Dropout(0.3, inplace=draw.random() < 0.5)] if draw.random() < 0.3 else []
        return nn.Sequential(*parts)

    def forward(self, x):
        values = [x.clone()]
        for kind, source, *given in self.steps:
            values.append(self._step(kind, values[source], values, *given))
        y = values[-1]
        return self.head(y.flatten(1) if self.flat else y.mean((2, 3)) if self.maps else y)

    def _step(self, kind, h, values, given, how=None):
        match kind:
            case "layer":
                y = self.layers[given](h)
                return y if not how else F.relu(y, inplace=how == "relu_")
            case "act":
                return F.relu_(h) if given else torch.sigmoid(h)
            case "add":
                return h + values[given]
            case "mul":
                return h * values[given]
            case "item":
                return h * (1 + values[given].mean().item())
            case "cat":
                return torch.cat((h, values[given]), 1)
            case "split":
                return h.chunk(2, 1)[given].clone()
            case "order":
                return h[:, given]
            case "weight":
                layer = self.layers[given][0]
                read = {
                    "norm": layer.weight.norm(),
                    "bias": layer.bias.sum(),
                    "t": layer.weight.transpose(0, 1)[0].sum(),
                }
                return h + read[how]
            case "turn":
                return h.transpose(2, 3) if self.maps and given else h.flip(1)
            case "inplace":
                return h.add_(1) if given else h.mul_(0.5)
            case "norm":
                return F.layer_norm(h, h.shape[1:])
            case "pool":
                return F.avg_pool2d(h, 3, 1, 1) if self.maps else F.dropout(h, 0.2, self.training)
        y = torch.zeros_like(h)
        y[:, 1:] = h[:, :-1]
        return y


def test_resets_are_invisible_wherever_units_can_be_reset(monkeypatch):
    shown, tried = [], 0
    monkeypatch.setattr(lop.nets.describe, "showing", lambda *args: shown.extend(showing(*args)) or [])
    for seed in range(GRAPHS):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = Graph(seed)
            x = torch.randn(2, 2, 5, 5) if net.maps else torch.randn(3, 5)
            noise = torch.randn(1000)
        for layer in describe(net, x).hidden_layers():
            if not layer.outgoing or layer.is_coupled:
                continue
            kept, unit = {name: value.clone() for name, value in net.state_dict().items()}, layer.units // 2
            net.eval()
            with torch.no_grad():
                for reader in layer.outgoing:
                    layer.outgoing_weight(reader)[:, :, unit] = 0
                before = net(x)
                row = layer.incoming.weight[unit]
                row += 3 * noise[: row.numel()].view_as(row)
                layer.incoming.bias[unit] += 2
                assert torch.allclose(net(x), before, rtol=0, atol=1e-6), (seed, layer.name)
            net.load_state_dict(kept)
            tried += 1
    assert shown == []  # what is found by watching alone needs no test
    assert tried > 10
