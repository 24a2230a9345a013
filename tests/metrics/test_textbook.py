"""Every diagnostic, as the dashboard gives it, against a slow textbook computation in float64 with no shared code."""

import pytest
from textbook import (
    NETS,
    REFERENCES,
    Case,
    trace_error,
)

from lop.metrics import METRICS


@pytest.fixture(scope="module")
def cases():
    return {}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", [name for name, one in METRICS.items() if one.compute.__module__.startswith("lop.")])
def test_the_dashboards_value_is_the_textbooks(name, net, cases, drawn):
    case = cases.setdefault(net, None) or cases.update({net: Case(NETS[net], drawn)}) or cases[net]
    metric, found = METRICS[name], case.found
    values = found["spectra"][name] if metric.spectrum else [found[name], *found["layers"].get(name, [])]
    expected = REFERENCES[name](case)
    expected = expected if isinstance(expected, list) else [expected]
    tolerance = {"rel": 1e-6, "abs": 1e-9}
    if name == "hessian_trace":  # an estimate: within four standard errors
        tolerance = {"abs": 4 * trace_error(case)}
    elif name == "hessian_trace_se":
        tolerance = {"rel": 0.15}
    assert values == pytest.approx(expected, **tolerance)
    assert name not in found["reasons"]


def test_the_case_is_one_in_which_the_diagnostics_differ(cases, drawn):
    """Shares that are all 0 or 1, ranks that agree, would let a wrong rule pass."""
    found = Case(NETS["convnet"], drawn).found
    assert 0 < found["dead"] < found["dormant_proportion"] < 1
    assert found["tau_dormant"] != found["dormant_proportion"]
    assert found["zero_grad_share"] > 0
    assert found["dead"] < found["linearised_units"] < 1
    assert 0 < found["duplicate_units"] < 1
    assert 0 < found["sample_plasticity"] < 1
    assert 0 < found["hessian_eps_rank"] < 1
    assert len({found["eff_rank"], found["stable_rank"], found["approx_rank"]}) == 3
