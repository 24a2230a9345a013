"""`probing` and the dashboard leave nothing behind."""

import pytest
import torch
from torch import nn

from lop.metrics import METRICS, Dashboard, Reason, probing
from lop.nets.convnet import ConvNet
from lop.nets.init import initialise_
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.utils.seeding import make_generator

SHAPE = (3, 8, 8)
NETS = {
    "mlp": lambda: MLP(SHAPE, 4, hidden=[9, 8], layer_norm=True),
    "convnet": lambda: ConvNet(SHAPE, 4, channels=[3, 4], kernel_sizes=[3, 2], hidden=[5]),
    "resnet": lambda: ResNet18(SHAPE, 4, width=3, blocks=[1, 1]),
}


class Everything(nn.Module):
    """Modes that differ between submodules, a frozen BatchNorm, a plain buffer, a hook."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(4).eval()
        self.register_buffer("count", torch.zeros(2))
        self.register_buffer("nothing", None)
        self.calls = 0
        self.first.register_forward_hook(self._count)

    def _count(self, *_):
        self.calls += 1

    def forward(self, x):
        self.count += 1
        return self.frozen(self.first(x))


def snapshot(model, optimizer):
    return {
        "modes": [m.training for m in model.modules()],
        "buffers": {n: (id(b), b.clone()) for n, b in model.named_buffers()},
        "names": [list(m._buffers) for m in model.modules()],
        "grads": [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        "hooks": [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks)) for m in model.modules()
        ],
        "generator": optimizer.generator.get_state(),
        "global": torch.get_rng_state(),
        "parameters": [p.detach().clone() for p in model.parameters()],
    }


def disturb(model, optimizer):
    assert not any(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    model.train()
    model.register_forward_hook(lambda *_: None)
    model.first[0].register_forward_pre_hook(lambda *_: None)
    model.frozen.register_full_backward_hook(lambda *_: None)
    model(torch.rand(5, 4)).square().sum().backward()
    model.count = torch.ones(7)
    model.register_buffer("new", torch.ones(1))
    torch.rand(3, generator=optimizer.generator)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before(fails):
    model = Everything()
    x = torch.randn(6, 4, generator=make_generator(0, "x"))
    model.first(x).sum().backward()  # gradients on some parameters, none on others
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.generator = make_generator(0, "probes")
    before = snapshot(model, optimizer)
    try:
        with probing(model, optimizer), probing(model, optimizer):
            disturb(model, optimizer)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    after = snapshot(model, optimizer)
    for name in ("modes", "names", "hooks"):
        assert after.pop(name) == before.pop(name)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    calls = model.calls
    model(x)
    assert model.calls == calls + 1  # the model's own hook still works
    model.first._forward_hooks.clear()


def test_hooks_from_before_can_be_removed_afterwards():
    model = nn.Linear(2, 2)
    handle = model.register_forward_hook(lambda *_: None)
    with probing(model):
        pass
    handle.remove()
    assert not model._forward_hooks


def test_whether_gradients_are_recorded_is_left_to_the_caller():
    model = nn.Linear(2, 2)
    with probing(model):
        assert model(torch.ones(1, 2)).requires_grad
        with torch.no_grad(), probing(model):
            assert not model(torch.ones(1, 2)).requires_grad


def train(net, optimizer_name, task, diagnostics: bool):
    optimizer = get_optimizer(optimizer_name, net, lr=0.01)
    learner = Learner(net, optimizer, loss="cross_entropy")
    long = ("trainability", "hessian_eps_rank", "hessian_eps_ranks")
    extras = [{"name": n, "steps": 2} if n in long else n for n in METRICS if n != "hessian_eff_rank"]
    dashboard = Dashboard(learner, reference_size=12, ntk_size=5, extras=extras)
    for _ in range(2):
        if diagnostics:
            dashboard.before(task)
        for epoch in range(task.epochs):
            for x, y in task.batches(epoch):
                loss = learner.learn(x, y).loss
                if diagnostics:
                    dashboard.after_step(x, y, loss)
        if diagnostics:
            result = dashboard.after(task)
            assert set(result["reasons"].values()) <= {Reason.RANK_DEFICIENT}
    return learner


@pytest.mark.parametrize(
    ("net", "optimizer"),
    [
        *(("mlp", name) for name in ("sgd", "adam", "sassha", "sophiag", "kfac")),
        *(("convnet", name) for name in ("adam", "kfac")),
        *(("resnet", name) for name in ("sgd", "sassha")),  # its batch norms have statistics
    ],
)
def test_training_with_and_without_diagnostics_is_bit_identical(net, optimizer, images):
    random_state = torch.get_rng_state()
    learners = []
    for diagnostics in (False, True):
        model = NETS[net]()
        initialise_(model, make_generator(0, "net"))
        learners.append(train(model, optimizer, images, diagnostics))
    plain, measured = (learner.state_dict() for learner in learners)
    torch.testing.assert_close(measured["net"], plain["net"], rtol=0, atol=0)
    torch.testing.assert_close(measured["optimizer"]["state"], plain["optimizer"]["state"], rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert learners[1].net.training == learners[0].net.training
