"""The hand-written loop against autograd and torch's SGD."""

import numpy as np
import pandas as pd
import pytest
import torch

from lop.algos import INTERVENTIONS
from lop.nets import MLP
from lop.nets.init import initialise_
from lop.optimizers import get_optimizer
from lop.slowly_changing_regression import many_seeds
from lop.slowly_changing_regression.fast import (
    ACTIVATIONS,
    OnlineLearner,
    StackedNets,
    is_supported,
    online_learner,
    online_sgd,
)
from lop.slowly_changing_regression.many_seeds import error_curves
from lop.slowly_changing_regression.stream import SlowlyChangingRegression
from lop.training.benchmark import supervised_learner
from lop.training.learner import Learner
from lop.utils.seeding import make_generator


def make_net(seed, activation="relu", **options):
    net = MLP((20,), 1, **{"hidden": [5], "activation": activation, **options})
    initialise_(net, make_generator(seed, "net"))
    return net


def data(seeds, examples=300):
    tasks = [SlowlyChangingRegression(s, None, "cpu", flip_every=examples).task(0) for s in seeds]
    return np.stack([t.x.numpy() for t in tasks]), np.stack([t.y[:, 0].numpy() for t in tasks])


def plain_loop(net, x, y, lr):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    errors = []
    for row, target in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        loss = torch.nn.functional.mse_loss(net(row[None])[0, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    return errors


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equal_to_the_plain_loop_for_several_nets_at_once(activation):
    seeds = [3, 4]
    nets = [make_net(s, activation) for s in seeds]
    x, y = data(seeds)
    stack = StackedNets.of(nets)
    errors = online_sgd(stack, x, y, 0.01)
    for i, net in enumerate(nets):
        np.testing.assert_allclose(errors[i], plain_loop(net, x[i], y[i], 0.01), rtol=1e-3, atol=1e-5)
    copies = [make_net(s, activation) for s in seeds]
    stack.copy_to(copies)
    for net, copy in zip(nets, copies, strict=True):
        for p, q in zip(net.parameters(), copy.parameters(), strict=True):
            torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)


def test_a_stream_in_pieces_gives_the_same_bits():
    x, y = data([0])
    whole, pieces = StackedNets.of([make_net(0)]), StackedNets.of([make_net(0)])
    errors = online_sgd(whole, x, y, 0.01)
    parts = [online_sgd(pieces, x[:, s], y[:, s], 0.01) for s in (slice(0, 100), slice(100, 101), slice(101, 300))]
    assert np.array_equal(errors, np.concatenate(parts, axis=1))
    assert np.array_equal(whole.hidden, pieces.hidden)


def test_a_net_that_diverges_leaves_the_others_alone():
    x, y = data([0, 1])
    alone = online_sgd(StackedNets.of([make_net(1)]), x[1:], y[1:], 0.01)
    stack = StackedNets.of([make_net(0), make_net(1)])
    stack.hidden[0] *= 1e20
    errors = online_sgd(stack, x, y, 0.01)
    assert not np.isfinite(errors[0]).all()
    np.testing.assert_allclose(errors[1], alone[0], rtol=1e-4, atol=1e-6)


def test_which_nets_are_supported():
    assert is_supported(make_net(0, "tanh"))
    assert not is_supported(make_net(0, "crelu"))
    assert not is_supported(make_net(0, hidden=[5, 5]))
    assert not is_supported(make_net(0, layer_norm=True))
    assert not is_supported(MLP((20,), 2, hidden=[5]))
    assert not is_supported(torch.nn.Linear(2, 1))


def make_learner(lr=0.01, algos=(), optimizer="sgd", activation="tanh", factory=online_learner, **options):
    net = make_net(0, activation)
    stream = SlowlyChangingRegression(0, None, "cpu", flip_every=200)
    return factory(net, get_optimizer(optimizer, net, lr=lr, **options), list(algos), stream, 0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_accelerated_learner_is_trained_as_any(activation):
    plain = make_learner(activation=activation, factory=supervised_learner)
    fast = make_learner(algos=[INTERVENTIONS["bp"]()], activation=activation)
    assert type(plain) is Learner
    assert type(fast) is OnlineLearner
    task = SlowlyChangingRegression(0, None, "cpu", flip_every=200).task(0)
    for x, y in task.batches(0):
        expected, result = plain.learn(x, y), fast.learn(x, y)
        assert result.loss.shape == ()
        torch.testing.assert_close(result.loss, expected.loss, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(result.logits, expected.logits, rtol=1e-3, atol=1e-4)
    for p, q in zip(plain.net.parameters(), fast.net.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-5)
    x, y = task.reference(3)
    torch.testing.assert_close(fast.learn(x, y).loss, plain.learn(x, y).loss, rtol=1e-3, atol=1e-5)


def test_accelerated_steps_see_a_changed_step_size_and_restored_parameters():
    learner = make_learner()
    assert type(learner) is OnlineLearner
    x, y = SlowlyChangingRegression(0, None, "cpu", flip_every=10).task(0).reference(1)
    state = {name: value.clone() for name, value in learner.state_dict()["net"].items()}
    first = learner.learn(x, y).loss
    assert learner.learn(x, y).loss != first
    learner.net.load_state_dict(state)
    learner.optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(2):
        assert learner.learn(x, y).loss == first


def test_anything_but_plain_sgd_takes_the_plain_loop():
    assert type(make_learner()) is OnlineLearner
    assert type(make_learner(momentum=0.9)) is Learner
    assert type(make_learner(weight_decay=0.1)) is Learner
    assert type(make_learner(max_grad_norm=1.0)) is Learner
    assert type(make_learner(optimizer="adam")) is Learner
    assert type(make_learner(algos=[INTERVENTIONS["l2"]()])) is Learner


@pytest.mark.parametrize(("activation", "hidden"), [("relu", [5]), ("linear", [])])
def test_curves_of_many_seeds_are_those_of_runs(activation, hidden):
    curves = error_curves(activation, 0.01, [0, 5], num_tasks=3, bin_steps=100, flip_every=150)
    assert len(curves) == 8
    x, y = (
        np.concatenate([getattr(SlowlyChangingRegression(5, None, "cpu", flip_every=150).task(k), n) for k in range(3)])
        for n in ("x", "y")
    )
    losses = plain_loop(make_net(5, activation, hidden=hidden), x, y[:, 0], 0.01)
    expected = [sum(losses[i : i + 100]) / 100 for i in range(0, 400, 100)]
    np.testing.assert_allclose(curves[curves["seed"] == 5]["loss"], expected, rtol=1e-3)


def test_the_command_of_many_seeds_prints_and_writes_its_curves(tmp_path, capsys):
    path = tmp_path / "curves.csv"
    assert many_seeds.main(["relu", "0.01", "--seeds", "3", "--tasks", "2", "--flip", "one", "--csv", str(path)]) == 0
    curves = pd.read_csv(path)
    pd.testing.assert_frame_equal(curves, error_curves("relu", 0.01, [0, 1, 2], num_tasks=2, flip="one"))
    losses = curves["loss"].to_numpy()
    (row,) = capsys.readouterr().out.splitlines()[2:]
    assert list(map(float, row.split())) == [20_000, round(losses.mean(), 3), round(losses.std(ddof=1) / 3**0.5, 3)]
    assert many_seeds.main(["reelu", "0.01"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
