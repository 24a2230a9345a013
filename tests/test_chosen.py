"""Settings of a study in a config, in a notebook's parameters, and what is said where there are none."""

import pytest

from lop.plan import make_config, plan
from lop.utils.errors import UserError

CHOSEN = """\
digits:
  sgd:
    {benchmark: permuted_digits, optimizer: {name: sgd, lr: 0.25, momentum: 0.5}, algos: [], settings_tried: 3}
  sgd_cbp:
    benchmark: permuted_digits
    optimizer: {name: sgd, lr: 0.125}
    algos: [{name: cbp, replacement_rate: 0.001, maturity_threshold: 7}]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    folder = tmp_path / "studies" / "x"
    folder.mkdir(parents=True)
    (folder / "chosen.yaml").write_text(CHOSEN)
    monkeypatch.chdir(tmp_path)
    return folder


def options(config) -> dict:
    return config.optimizer.options


def test_a_config_names_a_study(study):
    named = make_config(benchmark="permuted_digits", overrides={"optimizer": {"name": "sgd", "settings": "studies/x"}})
    same = {"name": "sgd", "lr": 0.25, "momentum": 0.5}
    written = make_config(benchmark="permuted_digits", overrides={"optimizer": same})
    assert (options(named)["lr"], options(named)["momentum"]) == (0.25, 0.5)
    assert named.run_name() == written.run_name()  # the same experiment
    section = {"name": "sgd", "settings": str(study / "chosen.yaml"), "lr": 2.0}
    assert options(make_config(benchmark="permuted_digits", overrides={"optimizer": section}))["lr"] == 2.0


def test_interventions_bring_their_options(study):
    config = make_config(
        benchmark="permuted_digits",
        optimizer="sgd",
        algos=[{"name": "cbp", "maturity_threshold": 9}],
        overrides={"optimizer.settings": "studies/x"},
    )
    (cbp,) = config.algos
    assert options(config)["lr"] == 0.125
    assert (cbp.options["replacement_rate"], cbp.options["maturity_threshold"]) == (0.001, 9)
    alone = make_config(
        benchmark="permuted_digits", optimizer="sgd", algos=["sdp"], overrides={"optimizer.settings": "studies/x"}
    )
    assert options(alone)["lr"] == 0.25  # none with sdp: the optimizer's own


def test_the_best_of_all_studies_and_the_plain_run_beside_it(study):
    chosen, plain = plan(optimizer="sgd", algos=["cbp"], benchmark="permuted_digits", settings="best")
    assert (options(chosen)["lr"], options(plain)["lr"]) == (0.125, 0.25)
    (given,) = plan(optimizer="sgd", benchmark="permuted_digits", settings="studies/x", lr=0.5, baseline=False)
    assert options(given)["lr"] == 0.5


@pytest.mark.parametrize(
    ("optimizer", "settings", "message"),
    [
        ("adam", "studies/x", r"studies/x has no settings of adam on permuted_digits; it has sgd on permuted_digits"),
        ("sgd", "studies/y", r"optimizer\.settings: studies/y: no such file"),
        ("sgd", 3, r"optimizer\.settings: expected a study's folder, or best, got 3"),
    ],
)
def test_mistakes_are_one_line(study, optimizer, settings, message):
    with pytest.raises(UserError, match=message):
        make_config(benchmark="permuted_digits", optimizer=optimizer, overrides={"optimizer.settings": settings})


def test_another_file_is_refused(study):
    (study / "chosen.yaml").write_text("digits: {sgd: {lr: 0.1}}\n")
    with pytest.raises(UserError, match="not the settings that a study has chosen"):
        make_config(benchmark="permuted_digits", optimizer="sgd", overrides={"optimizer.settings": "studies/x"})
