"""The dashboard: every diagnostic of every kind of net, its churn, its reasons, its summary."""

import dataclasses
import io
import json
import math

import pytest
import torch
from metrics_small import FixedTask, SmallLearner

from lop.metrics import CORE, METRICS, Dashboard, Reason, dashboard_options, format_summary, metric
from lop.metrics.chosen import chosen
from lop.metrics.ranks import effective_rank
from lop.nets.actor_critic import ActorCritic
from lop.nets.convnet import ConvNet
from lop.nets.mlp import MLP
from lop.nets.resnet import ResNet18
from lop.plan import make_config, resolve
from lop.runs import checkpoint
from lop.runs.records import phase_rows
from lop.utils.errors import UserError

SHAPE = (3, 8, 8)
NETS = {
    "mlp": lambda: MLP(SHAPE, 4, hidden=[9, 8], activation="crelu"),
    "convnet": lambda: ConvNet(SHAPE, 4, channels=[3, 4], kernel_sizes=[3, 2], hidden=[5]),
    "resnet": lambda: ResNet18(SHAPE, 4, width=3, blocks=[1, 1]),
    "policy and value": lambda: ActorCritic(SHAPE, 3, hidden=[6, 5]),
}
LONG = ("trainability", "hessian_eps_rank", "hessian_eps_ranks")
ALL = [{"name": name, "steps": 2} if name in LONG else name for name in METRICS]
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


@pytest.fixture
def mlp(drawn):
    return SmallLearner(drawn(MLP(SHAPE, 4, hidden=[9, 8]), torch.float32))


def perturb(net, amount=0.1):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in net.parameters():
            p += amount * torch.randn(p.shape, generator=generator)


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


@pytest.mark.parametrize("net", NETS)
def test_layers_carry_the_names_the_net_gives_them(net, drawn, images):
    built = drawn(NETS[net](), torch.float32)
    result = Dashboard(SmallLearner(built), reference_size=16, ntk_size=4).before(images)
    names = [layer.name for layer in built.hidden_layers()]
    assert result["layer_names"] == names
    rows = phase_rows(5, "before", result)["layers"]
    assert [(row["layer"], row["name"]) for row in rows] == list(enumerate(names))
    if net == "policy and value":
        assert names == ["value0", "value1", "policy0", "policy1"]


def test_options_belong_to_their_diagnostics():
    """The dashboard's own names no diagnostic's, and two diagnostics may call theirs alike."""
    shared = {"reference_size", "ntk_size", "ntk", "eval_examples", "extras", "seed"}
    assert set(dashboard_options()) == shared
    assert {name: set(METRICS[name].options) for name in ("trainability", "hessian_top_eigenvalue", "dead")} == {
        "trainability": {"steps", "lr"},
        "hessian_top_eigenvalue": {"steps"},
        "dead": set(),
    }
    assert METRICS["tau_dormant"].options["tau"].default == 0.1


def test_a_diagnostic_with_an_option_is_one_function(mlp, images, monkeypatch):
    for name in ("mine", "other"):
        monkeypatch.setitem(METRICS, name, None)
        monkeypatch.delitem(METRICS, name)

    @metric("mine", "mine", (0, None), None, "the largest output to a power")
    def _mine(probe, *, power: float = 1.0):
        return probe.outputs.abs().max() ** power

    @metric("other", "other", (0, None), None, "its options have the names of another's and of the dashboard's")
    def _other(probe, *, power: int = 3, seed: int = 5):
        return probe.outputs.abs().max() * power * seed

    one, two, both = (
        Dashboard(mlp, reference_size=16, ntk_size=4, extras=extras).before(images)
        for extras in (
            ["mine"],
            [{"name": "mine", "power": 2.0}],
            ["mine", {"name": "other", "power": 4, "seed": 6}],
        )
    )
    assert two["mine"] == pytest.approx(one["mine"] ** 2)
    assert (both["mine"], both["other"]) == pytest.approx((one["mine"], one["mine"] * 24))

    def extras(*sections):
        config = resolve({"benchmark": "permuted_digits", "metrics": {"extras": list(sections)}})
        return config.metrics["extras"]

    assert extras({"name": "mine", "power": "3"}, {"name": "other"}) == [{"name": "mine", "power": 3.0}, "other"]
    assert extras({"name": "mine", "power": 1}) == extras("mine") == ["mine"]  # one experiment has one name
    for wrong, words in (
        ({"name": "mine", "power": "high"}, r"^metrics\.extras\.0\.power: .*number"),
        ({"name": "mine", "powr": 1}, r"^metrics\.extras\.0\.powr: unknown key; did you mean 'power'"),
        ({"power": 1}, r"^metrics\.extras\.0: expected a diagnostic's name"),
        ({"name": "mines"}, r"^metrics\.extras\.0: unknown diagnostic 'mines'"),
        (7, r"^metrics\.extras\.0: "),
    ):
        with pytest.raises(UserError, match=words):
            extras(wrong)
    with pytest.raises(UserError, match=r"^metrics\.power: unknown key"):
        resolve({"benchmark": "permuted_digits", "metrics": {"power": 1}})


def test_a_core_diagnostic_takes_options_by_being_named(mlp, images):
    given = [{"name": "dormant_proportion", "threshold": 2.0}]  # no unit is active on more than all of the batch
    result = Dashboard(mlp, reference_size=16, ntk_size=4, extras=given).before(images)
    assert result["dormant_proportion"] == 1
    assert list(result)[: len(CORE)] == list(Dashboard(mlp, reference_size=16, ntk_size=4).before(images))[: len(CORE)]


def test_companions_share_options():
    trace, error = chosen([{"name": "hessian_trace", "probes": 7}])[len(CORE) :]
    assert [(one.metric.name, one.options) for one in (trace, error)] == [
        ("hessian_trace", {"probes": 7}),
        ("hessian_trace_se", {"probes": 7}),
    ]
    own = chosen([{"name": "hessian_trace", "probes": 7}, {"name": "hessian_trace_se", "probes": 9}])[len(CORE) :]
    assert [one.options["probes"] for one in own] == [7, 9]
    assert [one.metric.name for one in chosen(["dead", "dead"])][len(CORE) :] == ["dead"]
    with pytest.raises(UserError, match=r"^extras\.0: 'tau_dormant' is asked for twice"):
        chosen(["tau_dormant", {"name": "tau_dormant", "tau": 0.2}])


def test_an_option_is_set_by_its_dotted_path():
    config = make_config(
        benchmark="permuted_digits",
        overrides={"metrics.extras": ["dead", "tau_dormant"], "metrics.extras.1.tau": 0.2, "algos": ["sdp"]}
        | {"algos.0.gamma": 0.5},
    )
    assert config.metrics["extras"] == ["dead", {"name": "tau_dormant", "tau": 0.2}]
    assert config.algos[0].options["gamma"] == 0.5


def test_reasons_survive_a_checkpoint(mlp, images, tmp_path):
    x, y = images.reference(20)
    before = Dashboard(mlp, reference_size=16, ntk_size=4).before(FixedTask(x, y))
    checkpoint.save(tmp_path / "c.pt", {"before": before})
    assert checkpoint.load(tmp_path / "c.pt")["before"]["reasons"] == {"test_acc": Reason.NO_TEST_SPLIT}
    assert isinstance(checkpoint.load(tmp_path / "c.pt")["before"]["reasons"]["test_acc"], Reason)


def test_churn_is_of_the_same_reference_inputs(mlp, images):
    dashboard = Dashboard(mlp, reference_size=16, ntk_size=4)
    dashboard.before(images)
    x, _ = images.reference(16)
    p = mlp.predict(x).softmax(1)
    assert dashboard.after(images)["ntk_churn"] == 0
    perturb(mlp.net)
    q = mlp.predict(x).softmax(1)
    expected = (p * (p / q).log()).sum(1).mean().item()
    assert dashboard.after(images)["ntk_churn"] == pytest.approx(expected, rel=1e-4)


def test_resumed_in_mid_task_gives_the_same_values(mlp, images):
    options = {"reference_size": 16, "ntk_size": 4, "extras": ["distance_from_init"]}
    dashboard = Dashboard(mlp, **options)
    dashboard.before(images)
    buffer = io.BytesIO()
    torch.save(dashboard.state_dict(), buffer)
    perturb(mlp.net)
    resumed = Dashboard(mlp, **options)
    assert math.isnan(resumed.after(images)["ntk_churn"])
    resumed.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    expected, found = dashboard.after(images), resumed.after(images)
    for values in (expected, found):
        del values["seconds"], values["evaluation_seconds"]
    assert found == expected
    assert found["distance_from_init"] > 0


def test_churn_against_another_task_is_refused(mlp, images):
    dashboard = Dashboard(mlp, reference_size=16, ntk_size=4)
    dashboard.before(images)
    result = dashboard.after(dataclasses.replace(images, index=1))
    assert math.isnan(result["ntk_churn"])
    assert result["reasons"]["ntk_churn"] is Reason.NOT_MEASURED_BEFORE


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


def test_only_active_outputs_are_measured(drawn, images):
    learner = SmallLearner(drawn(MLP(SHAPE, 6, hidden=[9]), torch.float32))
    task = dataclasses.replace(images, active=torch.arange(4))
    narrow = SmallLearner(drawn(MLP(SHAPE, 4, hidden=[9]), torch.float32))
    with torch.no_grad():
        for ours, theirs in zip(narrow.net.parameters(), learner.net.parameters(), strict=True):
            ours.copy_(theirs[: len(ours)])
        learner.net.head.bias[4:] = 100.0
    options = {
        "reference_size": 16,
        "ntk_size": 5,
        "extras": ["grad_norm", "sharpness", "grad_cov_rank", "hessian_trace"],
    }
    wide, expected = Dashboard(learner, **options).before(task), Dashboard(narrow, **options).before(images)
    for name in (
        "loss",
        "train_acc",
        "test_acc",
        "ntk_eff_rank",
        "ntk_cond",
        "grad_norm",
        "sharpness",
        "grad_cov_rank",
    ):
        assert wide[name] == pytest.approx(expected[name], rel=1e-4), name


def test_evaluation_weights_count_for_loss_and_accuracy_only(mlp, images):
    zero = SmallLearner(mlp.net)
    zero.predict = lambda x: torch.zeros(len(x), 4)
    result = Dashboard(zero, reference_size=16, ntk_size=4).before(images)
    assert result["loss"] == pytest.approx(math.log(4), rel=1e-6)
    expected = Dashboard(mlp, reference_size=16, ntk_size=4).before(images)
    assert result["ntk_eff_rank"] == expected["ntk_eff_rank"]


def test_training_examples_are_capped_and_the_test_split_is_whole(mlp, images):
    seen = []
    original = mlp.predict
    mlp.predict = lambda x: (seen.append(len(x)), original(x))[1]
    Dashboard(mlp, reference_size=16, ntk_size=4, eval_examples=7).before(images)
    assert sorted(seen) == [7, 20]


def test_no_test_split_is_a_reason(mlp, images):
    x, y = images.reference(20)
    result = Dashboard(mlp, reference_size=16, ntk_size=4).before(FixedTask(x, y))
    assert result["reasons"] == {"test_acc": Reason.NO_TEST_SPLIT}
    assert math.isnan(result["test_acc"])


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


def test_the_block_of_the_hessian_is_chosen_by_layer(mlp, images):
    ranks = [
        Dashboard(mlp, reference_size=16, ntk_size=4, extras=[{"name": "hessian_eff_rank", "layer": layer}]).before(
            images
        )
        for layer in (None, "hidden1")
    ]
    assert ranks[0]["hessian_eff_rank"] != ranks[1]["hessian_eff_rank"]


def test_trace_comes_with_its_standard_error(mlp, images):
    result = Dashboard(mlp, reference_size=16, ntk_size=4, extras=["hessian_trace"]).before(images)
    assert result["hessian_trace_se"] > 0


def test_the_core_is_the_summarys_eleven():
    assert len(CORE) == 11
    assert all(METRICS[name].core for name in CORE)
    assert {n for n, m in METRICS.items() if m.per_layer and m.core} == {
        "eff_rank",
        "stable_rank",
        "approx_rank",
        "dormant_proportion",
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("reference_size", 0),
        ("ntk_size", 0),
        ("ntk_size", 65),
        ("ntk", "half"),
        ("eval_examples", 0),
        ("extras", [{"name": "tau_dormant", "tau": -1.0}]),
        ("extras", [{"name": "sharpness", "rho": 0.0}]),
        ("extras", ["hessian_tracee"]),
    ],
)
def test_a_bad_option_is_refused_by_name(option, value, mlp):
    with pytest.raises(UserError, match=rf"^{option}\b") as error:
        Dashboard(mlp, **{option: value})
    assert "\n" not in str(error.value)


def test_a_layer_that_the_net_does_not_have_is_refused_when_the_dashboard_is_made(mlp):
    with pytest.raises(UserError, match=r"^extras\.0\.layer: did you mean 'hidden[01]'"):
        Dashboard(mlp, extras=[{"name": "hessian_eff_rank", "layer": "hidden7"}])


def test_an_unknown_extra_lists_the_near_matches(mlp):
    with pytest.raises(UserError, match="did you mean 'hessian_trace'"):
        Dashboard(mlp, extras=["hessian_trce"])
