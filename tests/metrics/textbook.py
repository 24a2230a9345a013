"""Every diagnostic written down slowly, from its definition, in float64."""

import copy
import math

import torch
from metrics_small import FixedTask, SmallLearner
from torch import nn
from torch.nn import functional as F

from lop.metrics import METRICS, Dashboard
from lop.nets.convnet import ConvNet
from lop.nets.mlp import MLP
from lop.utils.seeding import make_generator

SHAPE = (2, 6, 6)
NETS = {
    "mlp": lambda: MLP(SHAPE, 3, hidden=[5, 4]),
    "convnet": lambda: ConvNet(SHAPE, 3, channels=[3], kernel_sizes=[3], hidden=[4]),
}
REFERENCE, FEW = 14, 5
OPTIONS = {
    "dormant_proportion": {"threshold": 0.3},
    "tau_dormant": {"tau": 0.4},
    "hessian_trace": {"probes": 500},
    "hessian_top_eigenvalue": {"steps": 300},
    "sharpness": {"rho": 0.2},
    "trainability": {"steps": 4, "lr": 0.3},
    "hessian_eps_rank": {"eps": 0.05, "steps": 1000},
    "hessian_eps_ranks": {"steps": 1000},
    "duplicate_units": {"threshold": 0.2},
}


class Case:
    """A net before and after a change, its dashboard's values after it, and what the references need."""

    def __init__(self, build, drawn):
        generator = torch.Generator().manual_seed(4)
        self.net = drawn(build())
        with torch.no_grad():  # some units that are silent, always or often
            first = self.net.hidden_layers()[0].incoming
            first.bias[0], first.bias[1] = -1e3, first.bias[1] - 1.0
            self.net.hidden_layers()[-1].incoming.bias[3] += 8.0  # one that is always active
        self.initial = copy.deepcopy(self.net)
        x = torch.randn(20, *SHAPE, generator=generator, dtype=torch.float64)
        y = torch.randint(0, 3, (20,), generator=generator)
        test = torch.randn(9, *SHAPE, generator=generator, dtype=torch.float64), torch.arange(9) % 3
        self.task = FixedTask(x, y, test, index=3)
        self.x, self.y, self.few = x[:REFERENCE], y[:REFERENCE], (x[:FEW], y[:FEW])
        layer = self.net.hidden_layers()[-1].name
        options = OPTIONS | {"hessian_eff_rank": {"layer": layer}}
        # the trace's standard error comes with it
        extras = [{"name": name, **options.get(name, {})} for name in METRICS if name != "hessian_trace_se"]
        dashboard = Dashboard(SmallLearner(self.net), extras=extras, reference_size=REFERENCE, ntk_size=FEW, seed=8)
        dashboard.before(self.task)
        self.steps = [(torch.tensor(40.0), self.x[:4], self.y[:4]), (torch.tensor(0.9), self.x[4:], self.y[4:])]
        self.plasticity = []
        for loss, inputs, targets in self.steps:
            after = sum(-math.log(row.detach().softmax(0)[k]) for row, k in zip(self.net(inputs), targets, strict=True))
            self.plasticity.append(min(1, max(0, 1 - after / len(targets) / loss.item())))
            dashboard.after_step(inputs, targets, loss)
        with torch.no_grad():
            for p in self.net.parameters():
                p += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        self.found = dashboard.after(self.task)

    def features(self):
        kept = []
        for layer in self.net.hidden_layers():
            kept.append([])
            layer.activation.register_forward_hook(lambda m, i, out, into=kept[-1]: into.append(out.detach().clone()))
        self.net(self.x)
        return [one[0] for one in kept]

    def loss(self, net=None, x=None, y=None):
        return F.cross_entropy((net or self.net)(self.x if x is None else x), self.y if y is None else y)

    def flat_gradient(self, value, parameters=None):
        parameters = parameters or list(self.net.parameters())
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, parameters)])

    def hessian(self):
        names = [name for name, _ in self.net.named_parameters()]
        sizes = [p.numel() for p in self.net.parameters()]
        shapes = [p.shape for p in self.net.parameters()]

        def loss(vector):
            parts = vector.split(sizes)
            values = {n: v.view(s) for n, v, s in zip(names, parts, shapes, strict=True)}
            return F.cross_entropy(torch.func.functional_call(self.net, values, (self.x,)), self.y)

        return torch.autograd.functional.hessian(
            loss, torch.cat([p.detach().reshape(-1) for p in self.net.parameters()])
        )

    def kernel(self):
        x, _ = self.few
        rows = torch.stack([self.flat_gradient(self.net(x[i : i + 1]).sum()) for i in range(FEW)])
        return rows @ rows.T


def entropy_rank(values):
    shares = [v / sum(values) for v in values if v > 1e-13 * max(values)]
    return math.exp(-sum(s * math.log(s) for s in shares))


def count_to(values, share):
    total = 0.0
    for k, value in enumerate(values, 1):
        total += value / sum(values)
        if total >= share - 1e-12:
            return k
    raise AssertionError


def ranks(case, rank):
    matrices = [f.mean((2, 3)) if f.dim() == 4 else f for f in case.features()]
    values = [rank(torch.linalg.svdvals(matrix).tolist()) for matrix in matrices]
    return [values[-1], *values]


def units(case, rule):
    counts, sizes = [], []
    for features in case.features():
        columns = [features[:, u].reshape(-1).tolist() for u in range(features.shape[1])]
        counts.append(sum(bool(chosen) for chosen in rule(columns)))
        sizes.append(len(columns))
    return [sum(counts) / sum(sizes), *(count / size for count, size in zip(counts, sizes, strict=True))]


def tau_dormant(columns):
    means = [sum(map(abs, column)) / len(column) for column in columns]
    return [mean <= OPTIONS["tau_dormant"]["tau"] * sum(means) / len(means) for mean in means]


def weights(case, value, scalar):
    matrices = [layer.incoming.weight.detach().flatten(1) for layer in case.net.hidden_layers()]
    values = [value(torch.linalg.svdvals(matrix).tolist()) for matrix in matrices]
    return [scalar(values), *values]


def accuracy(case, x, y):
    return sum(int(row.argmax() == label) for row, label in zip(case.net(x), y, strict=True)) / len(y)


def feature_norm(case):
    values = [sum(row.square().sum().item() ** 0.5 for row in f) / len(f) for f in case.features()]
    return [values[-1], *values]


def churn(case):
    before, after = case.initial(case.x).softmax(1).tolist(), case.net(case.x).softmax(1).tolist()
    return (
        sum(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) for p, q in zip(before, after, strict=True))
        / REFERENCE
    )


def ntk_values(case):
    return torch.linalg.eigvalsh(case.kernel()).flip(0).tolist()


def zero_share(case):
    gradient = case.flat_gradient(case.loss()).tolist()
    return gradient.count(0.0) / len(gradient)


def grad_cov_rank(case):
    x, y = case.few
    rows = [case.flat_gradient(case.loss(x=x[i : i + 1], y=y[i : i + 1])) for i in range(FEW)]
    rows = torch.stack([row / row.norm() if row.norm() > 0 else row for row in rows])
    return entropy_rank(torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0).tolist())


def hessian_block(case):
    start, spans = 0, {}
    for p in case.net.parameters():
        spans[id(p)] = range(start, start + p.numel())
        start += p.numel()
    layer = case.net.hidden_layers()[-1].incoming
    rows = torch.tensor([i for p in layer.parameters() for i in spans[id(p)]])
    return entropy_rank(torch.linalg.eigvalsh(case.hessian()[rows][:, rows]).abs().tolist())


def sharpness(case):
    moved, gradient = copy.deepcopy(case.net), case.flat_gradient(case.loss())
    start = 0
    with torch.no_grad():
        for p in moved.parameters():
            step = gradient[start : start + p.numel()].view(p.shape)
            p += OPTIONS["sharpness"]["rho"] * step / gradient.norm()
            start += p.numel()
        return (case.loss(moved) - case.loss()).item()


def trainability(case):
    net = copy.deepcopy(case.net).train()
    labels = torch.randint(3, (REFERENCE,), generator=make_generator(8, "metrics", "trainability", case.task.index))
    optimizer = torch.optim.SGD(net.parameters(), lr=OPTIONS["trainability"]["lr"])
    for _ in range(OPTIONS["trainability"]["steps"]):
        optimizer.zero_grad()
        F.cross_entropy(net(case.x), labels).backward()
        optimizer.step()
    return F.cross_entropy(net(case.x), labels).item()


def trace_error(case):
    """Standard error of the mean of Rademacher probes: 2 * sum of squared off-diagonals is one probe's variance."""
    hessian = case.hessian()
    return (
        (2 * (hessian.square().sum() - hessian.diagonal().square().sum()) / OPTIONS["hessian_trace"]["probes"])
        .sqrt()
        .item()
    )


def correlates(columns, threshold):
    def centred(column):
        mean = sum(column) / len(column)
        return [v - mean for v in column]

    def cosine(a, b):
        norms = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
        return sum(v * w for v, w in zip(a, b, strict=True)) / norms if norms else 0.0

    rows = [centred(column) for column in columns]
    return [any(cosine(a, b) > threshold for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]


def isometry_gap(case):
    values = []
    for layer in case.net.hidden_layers():
        matrix = layer.incoming.weight.detach().flatten(1)
        gram = matrix @ matrix.T
        values.append((gram / torch.linalg.eigvalsh(gram).mean() - torch.eye(len(gram))).norm().item())
    return [sum(values) / len(values), *values]


def eps_rank(case, eps):
    return (torch.linalg.eigvalsh(case.hessian()).abs() > eps).double().mean().item()


def distances(case):
    pairs = zip(case.net.parameters(), case.initial.parameters(), strict=True)
    return math.sqrt(sum((p - p0).square().sum().item() for p, p0 in pairs))


REFERENCES = {
    "loss": lambda c: c.loss(x=c.task.x, y=c.task.y).item(),
    "train_acc": lambda c: accuracy(c, c.task.x, c.task.y),
    "test_acc": lambda c: accuracy(c, *c.task.test),
    "avg_weight_mag": lambda c: nn.utils.parameters_to_vector(c.net.parameters()).abs().mean().item(),
    "ntk_churn": churn,
    "ntk_eff_rank": lambda c: entropy_rank([math.sqrt(max(v, 0)) for v in ntk_values(c)]),
    "ntk_cond": lambda c: ntk_values(c)[0] / ntk_values(c)[-1],
    "ntk_rank": lambda c: torch.linalg.matrix_rank(c.kernel()).item(),
    "ntk_spectrum": ntk_values,
    "eff_rank": lambda c: ranks(c, entropy_rank),
    "stable_rank": lambda c: ranks(c, lambda s: count_to(s, 0.99)),
    "approx_rank": lambda c: ranks(c, lambda s: count_to([v * v for v in s], 0.99)),
    "dormant_proportion": lambda c: units(
        c, lambda columns: [sum(v != 0 for v in column) / len(column) < 0.3 for column in columns]
    ),
    "tau_dormant": lambda c: units(c, tau_dormant),
    "dead": lambda c: units(c, lambda columns: [all(v == 0 for v in column) for column in columns]),
    "feature_norm": feature_norm,
    "weight_cond": lambda c: weights(c, lambda s: s[0] / s[-1], max),
    "weight_eff_rank": lambda c: weights(c, entropy_rank, lambda values: sum(values) / len(values)),
    "distance_from_init": distances,
    "grad_norm": lambda c: c.flat_gradient(c.loss()).norm().item(),
    "zero_grad_share": zero_share,
    "grad_cov_rank": grad_cov_rank,
    "hessian_top_eigenvalue": lambda c: torch.linalg.eigvalsh(c.hessian())[-1].item(),
    "hessian_trace": lambda c: c.hessian().trace().item(),
    "hessian_trace_se": trace_error,
    "hessian_eff_rank": hessian_block,
    "sharpness": sharpness,
    "trainability": trainability,
    "sample_plasticity": lambda c: sum(c.plasticity) / 2,
    "hessian_eps_rank": lambda c: eps_rank(c, 0.05),
    "hessian_eps_ranks": lambda c: [eps_rank(c, 10 ** (k / 4)) for k in range(-8, 1)],
    "linearised_units": lambda c: units(
        c, lambda columns: [sum(v > 0 for v in column) in (0, len(column)) for column in columns]
    ),
    "duplicate_units": lambda c: units(c, lambda columns: correlates(columns, 0.2)),
    "isometry_gap": isometry_gap,
}
