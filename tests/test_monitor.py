"""Diagnostics in a foreign loop: the same numbers as the dashboard's, no trace, one line for every mistake."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lop
from lop.monitor import Monitor
from lop.utils.errors import UserError


def model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 8, generator=generator), torch.randint(3, (64,), generator=generator)


def train(net, x, y, steps=30):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()


def test_values_are_those_of_the_model_before_and_after(examples):
    x, y = examples
    net = model()
    monitor = Monitor(net, nn.CrossEntropyLoss(), test=(x[:10], y[:10]), extras=["grad_norm"])
    net.eval()
    start = net(x)
    before = monitor.before(x, y)
    assert before["loss"] == pytest.approx(F.cross_entropy(start, y).item(), rel=1e-5)
    assert before["train_acc"] == pytest.approx((start.argmax(1) == y).float().mean().item())
    assert before["test_acc"] == pytest.approx((start[:10].argmax(1) == y[:10]).float().mean().item())
    train(net, x, y)
    after = monitor.after(x, y)
    net.eval()
    end = net(x)
    churn = F.kl_div(end.log_softmax(1), start.softmax(1), reduction="batchmean").item()
    assert after["ntk_churn"] == pytest.approx(churn, rel=1e-4)
    assert after["loss"] < before["loss"]
    (row,) = monitor.table.to_dict("records")
    assert row["task"] == 0
    assert row["loss_before"] == before["loss"]
    assert row["eff_rank_after"] == after["eff_rank"]
    assert row["grad_norm_after"] > 0
    features = net[2](net[1](net[0](x)))
    s = torch.linalg.svdvals(features.double())
    p = s / s.sum()
    assert after["eff_rank"] == pytest.approx(torch.exp(-(p * p.clamp_min(1e-300).log()).sum()).item(), rel=1e-4)
    assert list(monitor.layers["name"].unique()) == ["0"]
    assert monitor.plot().axes


def test_it_leaves_no_trace(examples):
    x, y = examples
    watched, alone = model(), model()
    monitor = Monitor(watched)
    torch.manual_seed(3)
    for _ in range(3):
        monitor.before(x, y)
        assert watched.training
        train(watched, x, y, 3)
        monitor.after()
    after_watched = torch.random.get_rng_state()
    torch.manual_seed(3)
    for _ in range(3):
        train(alone, x, y, 3)
    assert torch.equal(after_watched, torch.random.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), alone.state_dict().values(), strict=True)
    )
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    assert not any(module._forward_hooks for module in watched.modules())
    assert list(monitor.table["task"]) == [0, 1, 2]


def test_mistakes_are_one_line(examples):
    x, y = examples
    monitor = Monitor(model())
    for call, message in (
        (monitor.after, r"after\(\) without before"),
        (monitor.plot, "nothing to plot yet"),
        (lambda: monitor.cost(lambda: None), "nothing has been measured yet"),
        (lambda: monitor.net, r"call before\(x, y\) first"),
        (lambda: monitor.before(x, y[:3]), "as many targets as inputs.* got 64 and 3"),
        (lambda: Monitor(model(), "hinge"), "loss must be cross_entropy or mse .* got 'hinge'"),
        (lambda: Monitor(model(), extras=["grad_nrm"]).before(x, y), "did you mean 'grad_norm'"),
        (lambda: Monitor(model()).before(torch.randn(64, 9), y), "the model does not run on the example"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    monitor.before(x, y)
    with pytest.raises(UserError, match="got another x than before"):
        monitor.after(x + 1, y)
    monitor.after(x.clone(), y)


def test_the_cost_is_said_in_steps(examples, capsys):
    x, y = examples
    net = model()
    monitor = Monitor(net)
    monitor.before(x, y)
    monitor.after()
    calls = []
    steps = monitor.cost(lambda: calls.append(train(net, x, y, 1)))
    assert steps > 0
    assert len(calls) == 6
    assert f"as long as {steps:.1f} training steps" in capsys.readouterr().out


def test_the_cures_work_in_a_foreign_loop(examples):
    x, y = examples
    from lop.algos.cbp import CBP

    described = lop.describe(model(), x[:2])
    optimizer = lop.get_optimizer("sassha", described, lr=0.05)
    cbp = CBP(replacement_rate=0.05, maturity_threshold=5)
    learner = lop.Learner(described, optimizer, [cbp])
    losses = [learner.learn(x, y).loss.item() for _ in range(60)]
    assert losses[-1] < losses[0]
    assert cbp.replaced > 10


def test_lightning_measures_and_logs(examples):
    pl = pytest.importorskip("lightning.pytorch", reason="needs Lightning: pip install lightning")
    from lop.lightning import PlasticityCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = model()

        def training_step(self, batch, index):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    x, y = examples
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
    callback = PlasticityCallback(x, y, every=2, submodule="net")
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=5, accelerator="cpu", callbacks=[callback], **quiet)
    trainer.fit(Module(), data)
    table = callback.monitor.table
    assert list(table["task"]) == [0, 1, 2]  # epochs 0-1, 2-3, 4
    assert table["loss_after"].iloc[-1] < table["loss_before"].iloc[0]
    assert trainer.callback_metrics["plasticity/eff_rank"].item() == pytest.approx(
        table["eff_rank_after"].iloc[-1], rel=1e-5
    )
    with pytest.raises(UserError, match="submodule 'nett' is not in the LightningModule"):
        pl.Trainer(
            max_epochs=1, accelerator="cpu", callbacks=[PlasticityCallback(x, y, submodule="nett")], **quiet
        ).fit(Module(), data)
