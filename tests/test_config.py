import dataclasses
import json

import pytest

from lop.config import override, parse_override, read_file, validate
from lop.optimizers import optimizer_options
from lop.plan import BENCHMARKS, make_config, shipped_optimizer
from lop.utils.errors import UserError
from lop.utils.options import check_options

BASE = {"benchmark": "permuted_digits", "net": {"name": "mlp"}, "optimizer": {"name": "sgd", "lr": 0.1}}


def part(*, rate: float = 0.1, count: int = 3, flag: bool = False, names: list[str] | None = None): ...


def test_bare_names_become_sections():
    config = validate({**BASE, "algos": ["sdp", {"name": "cbp", "rate": 1}]})
    assert config.benchmark.name == "permuted_digits"
    assert [a.name for a in config.algos] == ["sdp", "cbp"]
    assert config.algos[1].options == {"rate": 1}
    assert config.label == "sgd + sdp + cbp"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": {"sed": 1}}, ["run.sed", "did you mean 'seed'"]),
        ({"run": {"seed": -1}}, ["run.seed", "greater than or equal to 0"]),
        ({"run": {"seed": True}}, ["run.seed", "boolean"]),
        ({"run": {"device": "gpu"}}, ["run.device", "cuda"]),
        ({"run": {"time_limit_hours": 0}}, ["run.time_limit_hours"]),
        ({"optimiser": {}}, ["optimiser", "did you mean 'optimizer'"]),
        ({"optimizer": {"lr": 1}}, ["optimizer.name", "missing"]),
        ({"algos": [{"gamma": 1}]}, ["algos.0.name", "missing"]),
        ({"run": {"name": "a/b"}}, ["run.name"]),
    ],
)
def test_refusals_name_the_key(change, words):
    with pytest.raises(UserError) as error:
        validate({**BASE, **change})
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rat": 1}, ["optimizer.rat", "did you mean 'rate'"]),
        ({"rate": "fast"}, ["optimizer.rate", "'fast'"]),
        ({"rate": True}, ["optimizer.rate", "boolean"]),
        ({"rate": float("nan")}, ["optimizer.rate", "finite"]),
        ({"count": 1.5}, ["optimizer.count"]),
        ({"names": "a"}, ["optimizer.names"]),
    ],
)
def test_options_are_checked_against_the_signature(options, words):
    with pytest.raises(UserError) as error:
        check_options("optimizer", part, options)
    for word in words:
        assert word in str(error.value)


def test_checked_options_have_their_types_and_only_what_was_given():
    assert check_options("x", part, {"rate": "1e-4", "count": 2.0}) == {"rate": 1e-4, "count": 2}


def test_overrides():
    assert parse_override("optimizer.lr=1e-4") == ("optimizer.lr", 1e-4)
    assert parse_override("net.hidden=[3, 4]") == ("net.hidden", [3, 4])
    data = {"optimizer": "sgd", "algos": [{"name": "sdp"}]}
    changed = override(override(data, "optimizer.lr", 0.5), "algos.0.gamma", 0.1)
    assert changed == {"optimizer": {"name": "sgd", "lr": 0.5}, "algos": [{"name": "sdp", "gamma": 0.1}]}
    assert data == {"optimizer": "sgd", "algos": [{"name": "sdp"}]}
    for path, value in (("algos.1.gamma", 1), ("algos.x", 1), ("algos.0.name.deep", 1)):
        with pytest.raises(UserError, match=r"algos"):
            override(data, path, value)
    with pytest.raises(UserError, match=r"key\.path=value"):
        parse_override("optimizer.lr")


def test_files_json_and_yaml(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(BASE))
    (tmp_path / "a.yml").write_text("benchmark: permuted_digits\noptimizer: {name: sgd, lr: 0.1}\nnet: mlp\n")
    assert validate(read_file(tmp_path / "a.json")) == validate(read_file(tmp_path / "a.yml"))
    (tmp_path / "bad.json").write_text('{"a": 1,\n oops}')
    (tmp_path / "list.yml").write_text("- 1\n")
    for name, words in (("bad.json", "line 2"), ("list.yml", "expected sections"), ("none.json", "No such file")):
        with pytest.raises(UserError, match=words):
            read_file(tmp_path / name)


def test_run_name_depends_on_the_experiment_only():
    name = validate(BASE).run_name()
    assert (
        validate({**BASE, "run": {"results_dir": "x", "time_limit_hours": 3, "checkpoint_every": 7}}).run_name() == name
    )
    assert validate({**BASE, "run": {"seed": 1}}).run_name() != name
    assert validate({**BASE, "optimizer": {"name": "sgd", "lr": 0.2}}).run_name() != name


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_ships_settings_for_its_default_optimizer(name):
    known = BENCHMARKS[name]
    section = shipped_optimizer(name, known.optimizer)
    assert section["name"] == known.optimizer
    assert section["lr"] > 0


def test_an_optimizer_by_name_has_what_the_search_found(tmp_path, monkeypatch):
    """Where a config of its own does not say otherwise; a run far below plain SGD is told so."""
    rows = ["optimizer,options,accuracy", 'sgd,"{""lr"": 0.1}",0.8', 'nadam,"{""lr"": 0.02}",0.7', "adam,{},0.7"]
    (tmp_path / "optimizers.csv").write_text("\n".join(rows))
    (tmp_path / "adam.json").write_text('{"optimizer": {"name": "adam", "lr": 0.5}}')
    known = dataclasses.replace(BENCHMARKS["permuted_digits"], configs=tmp_path)
    monkeypatch.setitem(BENCHMARKS, "permuted_digits", known)
    assert shipped_optimizer("permuted_digits", "nadam") == {"name": "nadam", "lr": 0.02}
    assert shipped_optimizer("permuted_digits", "adam") == {"name": "adam", "lr": 0.5}
    assert shipped_optimizer("permuted_digits", "radam") == {"name": "radam"}
    assert known.below_sgd("nadam", [0.59, 0.6, 0.61, 0.64]) is None
    assert "59.0% is far below plain SGD's 80.0%" in known.below_sgd("nadam", [0.58, 0.59, 0.59, 0.6])
    assert known.below_sgd("nadam", [0.1] * 3) is None  # fewer tasks than the search had
    assert known.below_sgd("sgd", [0.1] * 4) is None
    assert known.below_sgd("nadam", [float("nan")] * 4) is None
    assert dataclasses.replace(known, configs=None).below_sgd("nadam", [0.1] * 4) is None


@pytest.mark.parametrize("name", [name for name, one in BENCHMARKS.items() if one.configs is not None])
def test_what_the_search_found_can_be_run(name):
    for optimizer in BENCHMARKS[name]._searched():
        if not optimizer.startswith("pytorch_optimizer:"):  # a library that need not be there
            config = make_config(benchmark=name, optimizer=optimizer)
            assert config.optimizer.options["lr"] > 0


@pytest.mark.parametrize(
    ("data", "message"), [({"": 1}, '"": unknown key; '), ({"run": {"": 1}}, 'run."": unknown key; ')]
)
def test_an_empty_key_is_named(data, message):
    with pytest.raises(UserError) as error:
        validate({"benchmark": "b", "net": "mlp", "optimizer": "sgd", **data})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "all", 2**40])
def test_a_population_of_none_is_refused_with_what_to_write(value):
    with pytest.raises(UserError) as error:
        validate({**BASE, "run": {"population": value}})
    assert str(error.value).startswith("run.population: expected ")
    assert validate({**BASE, "run": {"population": "3"}}).run.population == 3


@pytest.mark.parametrize("name", ["a b", "a/b", "", "\n", "x:y"])
def test_a_runs_name_says_what_it_may_be_of(name):
    with pytest.raises(UserError, match=r"^run\.name: expected letters, digits and _ \. \+ = - alone, got "):
        validate({**BASE, "run": {"name": name}})
    assert validate({**BASE, "run": {"name": "名前-ünï_1.0+x=2"}}).run_name() == "名前-ünï_1.0+x=2"


def test_options_come_in_the_order_of_the_signature():
    given = {"eps": 0.1, "betas": [0.9, 0.99], "lr": 0.5}
    names = list(check_options("optimizer", optimizer_options("sassha"), given))
    assert names == [name for name in optimizer_options("sassha") if name in given]
