"""Which diagnostics a dashboard measures, with which options."""

import pytest
import torch
from dashboards import NETS
from metrics_small import SmallLearner

from lop.metrics import CORE, METRICS, Dashboard, dashboard_options, metric
from lop.metrics.chosen import chosen
from lop.plan import make_config, resolve
from lop.runs.records import phase_rows
from lop.utils.errors import UserError


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
