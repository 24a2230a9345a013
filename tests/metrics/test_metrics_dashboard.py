"""The dashboard: every diagnostic of every kind of net, its churn, its reasons, its summary."""

import dataclasses
import json
import math

import pytest
import torch
from dashboards import ALL, NETS, SHAPE, perturb
from metrics_small import FixedTask, SmallLearner

from lop.metrics import CORE, METRICS, Dashboard, Reason, format_summary
from lop.metrics.ranks import effective_rank
from lop.nets.mlp import MLP

SAMPLE = """\
======================================================================
  Task 0 Summary
======================================================================
  loss: 2.3000  |  train_acc: 0.1000  |  test_acc: 0.1000
  avg_weight_mag:      0.020094 -> 0.020094
  ntk_churn:           0.072735
  ntk_eff_rank:        3.65 -> 3.84
  ntk_cond:            6.21 -> 3.58
  eff_rank:            1.36 -> 1.36
  stable_rank:         4 -> 4
  approx_rank:         1 -> 1
  dormant_proportion:  0.0000 -> 0.0000
======================================================================"""


def test_summary_is_byte_exact():
    same = {
        "avg_weight_mag": 0.0200944,
        "eff_rank": 1.361,
        "stable_rank": 4.0,
        "approx_rank": 1.0,
        "dormant_proportion": 0.0,
    }
    before = {**same, "loss": 9.0, "train_acc": 0.9, "test_acc": 0.9, "ntk_eff_rank": 3.651, "ntk_cond": 6.209}
    after = {**same, "loss": 2.3, "train_acc": 0.1, "test_acc": 0.1, "ntk_eff_rank": 3.84, "ntk_cond": 3.58}
    after["ntk_churn"] = 0.0727351
    assert format_summary(0, before, after) == SAMPLE


def test_summary_prints_nan():
    values = dict.fromkeys(CORE, math.nan)
    text = format_summary(12, values, values)
    assert "  Task 12 Summary\n" in text
    assert "test_acc: nan\n" in text
    assert "  stable_rank:         nan -> nan\n" in text


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("net", NETS)
def test_every_diagnostic_of_every_net_is_in_its_range(net, loss, drawn, images):
    learner = SmallLearner(drawn(NETS[net](), torch.float32), loss)
    task = images
    if loss == "mse":
        x, _ = images.reference(20)
        task = FixedTask(
            x, torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), test=(x[:2], x[:2, 0, :2, 0])
        )
    dashboard = Dashboard(learner, reference_size=16, ntk_size=6, extras=ALL)
    before = dashboard.before(task)
    dashboard.after_step(*task.reference(8), torch.tensor(2.0))
    perturb(learner.net)
    after = dashboard.after(task)
    accuracies = {"train_acc", "test_acc"} if loss == "mse" else set()
    undefined = {name for name, reason in after["reasons"].items() if reason is not Reason.RANK_DEFICIENT}
    assert undefined == accuracies == {n for n, why in before["reasons"].items() if why is not Reason.RANK_DEFICIENT}
    assert "ntk_churn" not in before
    layers = len(learner.net.hidden_layers())
    for one in METRICS.values():
        if one.spectrum:
            values = after["spectra"][one.name]
            assert len(values) == {"ntk_spectrum": 6, "hessian_eps_ranks": 9}[one.name]
        else:
            values = [after[one.name], *after["layers"].get(one.name, [])]
            assert len(values) == 1 + layers * one.per_layer
        if one.name in accuracies:
            assert math.isnan(values[0])
            continue
        low, high = one.range
        assert all(math.isfinite(v) for v in values), one.name
        assert low is None or min(values) >= low, one.name
        assert high is None or max(values) <= high, one.name
        assert not one.integer or all(v == int(v) for v in values), one.name
    assert after["distance_from_init"] > 0 == before["distance_from_init"]
    assert after["seconds"] > after["evaluation_seconds"] > 0
    json.dumps(after)


def test_features_of_maps_are_averaged_over_space(drawn, images):
    net = drawn(NETS["convnet"](), torch.float32)
    result = Dashboard(SmallLearner(net), reference_size=16, ntk_size=4).before(images)
    maps = []
    net.hidden_layers()[1].activation.register_forward_hook(lambda m, i, o: maps.append(o.detach()))
    net(images.reference(16)[0])
    expected = effective_rank(torch.linalg.svdvals(maps[0].mean((2, 3)).double()))
    assert result["layers"]["eff_rank"][1] == pytest.approx(expected.item(), rel=1e-6)
    assert result["eff_rank"] == result["layers"]["eff_rank"][-1]


def test_dormant_units_are_counted_over_all_layers(drawn, images):
    net = drawn(MLP(SHAPE, 4, hidden=[9, 3], activation="sigmoid"), torch.float32)
    with torch.no_grad():
        for unit in (0, 4):
            net.body[1].bias[unit] = -1e4  # sigmoid(-1e4) is exactly 0
        net.body[3].bias[2] = -1e4
    result = Dashboard(SmallLearner(net), reference_size=16, ntk_size=4).before(images)
    assert result["layers"]["dormant_proportion"] == pytest.approx([2 / 9, 1 / 3])
    assert result["dormant_proportion"] == pytest.approx(3 / 12)


def test_a_silent_layer_has_rank_zero_and_no_kernel_condition(drawn, images):
    net = drawn(MLP(SHAPE, 4, hidden=[9, 8]), torch.float32)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    net.head.bias.requires_grad_(False)
    result = Dashboard(SmallLearner(net), reference_size=16, ntk_size=4).before(images)
    assert (result["eff_rank"], result["stable_rank"], result["dormant_proportion"]) == (0, 0, 1)
    assert math.isnan(result["ntk_cond"])
    assert result["reasons"] == {"ntk_cond": Reason.NO_GRADIENT}


def kernel_of(drawn, images, change, inputs=lambda x: x):
    net = drawn(MLP(SHAPE, 4, hidden=[9, 8]), torch.float32)
    with torch.no_grad():
        change(net)
    x, y = images.reference(16)
    result = Dashboard(SmallLearner(net), reference_size=16, ntk_size=4, extras=["ntk_rank"]).before(
        FixedTask(inputs(x), y, test=(x, y))
    )
    return result["ntk_cond"], result["ntk_rank"], result["reasons"], result["explanations"]


def test_the_kernel_of_a_dead_net_is_the_worst_not_the_best(drawn, images):
    def kill(net):
        net.body[3].weight.zero_()
        net.body[3].bias.fill_(-1.0)

    found = kernel_of(drawn, images, kill)  # only the head's bias still has a gradient, the same for every input
    assert found == (1e10, 1, {"ntk_cond": Reason.RANK_DEFICIENT}, {"ntk_cond": "not of full rank: rank 1 of 4"})


@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_duplicated_inputs_have_the_largest_condition_number_at_any_scale(scale, drawn, images):
    def larger(net):
        net.head.weight.mul_(scale)

    found = kernel_of(drawn, images, larger, lambda x: x[[0, 1, 0, 2, *range(4, 16)]])
    assert found == (1e10, 3, {"ntk_cond": Reason.RANK_DEFICIENT}, {"ntk_cond": "not of full rank: rank 3 of 4"})


def test_gradients_that_overflow_are_a_divergence_not_a_share(mlp, images):
    """Finite weights, activations and outputs, and products that are too large on the way back."""
    with torch.no_grad():
        mlp.net.head.weight.mul_(1e30)
        mlp.net.body[3].weight.mul_(1e-14)
        mlp.net.body[3].bias.zero_()
    learner = SmallLearner(mlp.net, "mse")
    x, _ = images.reference(16)
    task = FixedTask(x, 1e15 * torch.ones(16, 4), test=(x, torch.ones(16, 4)))
    result = Dashboard(learner, reference_size=16, ntk_size=4, extras=["zero_grad_share", "grad_norm"]).before(task)
    assert math.isfinite(result["loss"])
    assert math.isnan(result["zero_grad_share"])
    assert result["reasons"]["zero_grad_share"] is Reason.NON_FINITE_GRADIENTS
    assert result["reasons"]["zero_grad_share"].diverged


def test_a_net_without_hidden_layers_has_no_ranks_and_says_so(drawn, images):
    learner = SmallLearner(drawn(MLP(SHAPE, 4, hidden=[]), torch.float32))
    result = Dashboard(learner, reference_size=16, ntk_size=4, extras=ALL).before(images)
    without = {name for name, reason in result["reasons"].items() if reason is Reason.NO_HIDDEN_LAYER}
    assert without == {name for name, one in METRICS.items() if one.per_layer}
    assert set(result["reasons"]) == without
    assert result["layer_names"] == []


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("body.1.weight", Reason.NON_FINITE_PARAMETERS),
        ("overflow", Reason.NON_FINITE_ACTIVATIONS),
        ("head", Reason.NON_FINITE_OUTPUTS),
    ],
)
def test_a_diverged_net_gives_nan_and_the_reason(where, reason, mlp, images):
    with torch.no_grad():
        if where == "body.1.weight":
            mlp.net.body[1].weight[0, 0] = math.inf
        elif where == "overflow":
            mlp.net.body[1].bias.fill_(3e38)
            mlp.net.body[3].weight.fill_(2.0)
        else:
            mlp.net.head.weight.fill_(1e38)
            mlp.net.body[-2].bias.fill_(1e3)
    dashboard = Dashboard(mlp, reference_size=16, ntk_size=4, extras=ALL)
    result = dashboard.before(images)
    assert math.isnan(result["loss"])
    assert math.isnan(result["train_acc"])
    assert math.isnan(result["ntk_eff_rank"])
    assert result["reasons"]["loss"] is reason
    assert reason.diverged
    nan = {n for n, v in result.items() if isinstance(v, float) and math.isnan(v)}
    assert nan <= set(result["reasons"])
    if where != "head":
        assert {"eff_rank", "stable_rank", "approx_rank", "dormant_proportion"} <= nan


def test_a_diagnostic_that_fails_is_nan_with_its_error(mlp, images, monkeypatch):
    def broken(probe):
        raise torch.linalg.LinAlgError("did not converge\ndetails")

    monkeypatch.setitem(METRICS, "eff_rank", dataclasses.replace(METRICS["eff_rank"], compute=broken))
    result = Dashboard(mlp, reference_size=16, ntk_size=4).before(images)
    assert (result["reasons"], result["explanations"]) == (
        {"eff_rank": Reason.FAILED},
        {"eff_rank": "the computation failed: did not converge"},
    )
    assert all(map(math.isnan, [result["eff_rank"], *result["layers"]["eff_rank"]]))
