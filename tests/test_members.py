"""Seeds and numbers on the command line and in configs: each run is what its own command would be."""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "robustness"))
import micro
import pytest

from lop import cli
from lop.experiment import build
from lop.plan import make_config, members
from lop.runs import load
from lop.utils.errors import UserError
from lop.utils.ranges import seeds_of

SMALL = {"run.results_dir": "somewhere", "net.hidden": [5]}


@pytest.mark.parametrize(
    ("given", "seeds"),
    [("0-3", [0, 1, 2, 3]), ("0,3,7-9", [0, 3, 7, 8, 9]), ("5", [5]), (4, [4]), ([2, 0], [2, 0]), (range(2), [0, 1])],
)
def test_seeds_as_people_write_them(given, seeds):
    assert seeds_of(given) == seeds
    config = make_config(benchmark="permuted_digits", overrides=SMALL)
    assert [member.run.seed for member in members(config, seeds=given)] == seeds
    config = make_config(
        benchmark="permuted_digits",
        overrides={**SMALL, "run.seeds": list(given) if isinstance(given, range) else given},
    )
    assert [member.run.seed for member in members(config)] == seeds


@pytest.mark.parametrize(
    "given", ["", "a", "3-1", "0-", "-1", [], [True], [0.5], [-1], "0,0", "0-999999999", [[0]], {}]
)
def test_what_is_no_seed(given):
    config = make_config(benchmark="permuted_digits", overrides=SMALL)
    with pytest.raises(UserError, match="seeds: expected") as one:
        members(config, seeds=given)
    with pytest.raises(UserError, match=r"run\.seeds") as other:
        make_config(benchmark="permuted_digits", overrides={**SMALL, "run.seeds": given})
    assert "\n" not in str(one.value) + str(other.value)


def test_each_is_the_config_of_a_run_of_its_own():
    base = {"benchmark": "permuted_mnist", "optimizer": "sassha", "algos": [{"name": "cbp"}, {"name": "l2"}]}
    config = make_config(**base, overrides={**SMALL, "run.seeds": "0-1", "metrics.ntk_size": 7})
    vary = {"optimizer.lr": [0.01, 0.1], "algos.0.replacement_rate": [1e-4, 1e-3, 1e-2]}
    found = members(config, vary=vary)
    expected = [
        make_config(
            **base,
            overrides={
                **SMALL,
                "metrics.ntk_size": 7,
                "optimizer.lr": lr,
                "algos.0.replacement_rate": rate,
                "run.seed": seed,
            },
        )
        for lr in vary["optimizer.lr"]
        for rate in vary["algos.0.replacement_rate"]
        for seed in (0, 1)
    ]
    assert [c.model_dump_json() for c in found] == [c.model_dump_json() for c in expected]
    assert [c.run_name() for c in found] == [c.run_name() for c in expected]
    assert len({c.kind() for c in found}) == 1


def test_kinds():
    def kind(**overrides):
        overrides = {key.replace("__", "."): value for key, value in overrides.items()}
        return make_config(
            benchmark="permuted_digits", optimizer="adam", algos=[{"name": "cbp"}], overrides={**SMALL, **overrides}
        ).kind()

    same = [{"run__seed": 3}, {"optimizer__lr": 0.5}, {"optimizer__betas": [0.5, 0.9]}, {"algos__0__decay": 0.5}]
    same += [{"run__name": "mine"}, {"run__on_divergence": "stop"}]
    other = [{"net__hidden": [6]}, {"benchmark__num_tasks": 2}, {"optimizer__amsgrad": True}, {"algos": []}]
    other += [{"run__diagnostics": False}, {"optimizer__max_grad_norm": 1.0}, {"run__results_dir": "elsewhere"}]
    assert {kind(**change) for change in same} == {kind()}
    assert kind() not in {kind(**change) for change in other}


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ({"optimizer.lrr": [1.0]}, "optimizer.lrr: unknown key; did you mean 'lr'"),
        ({"optimizer.lr": ["fast"]}, "optimizer.lr: expected numbers"),
        ({"optimizer.lr": []}, "optimizer.lr: expected numbers"),
        ({"optimizer.lr": [0.1, -1]}, "optimizer.lr"),
        ({"optimizer.nesterov": [True]}, "optimizer.nesterov: expected numbers"),
        ({"run.seed": [1, 2]}, "run.seed: expected numbers of the method"),
        ({"optimizer.lr": [0.1, 0.1]}, "two of the runs are the same"),
        ({"algos.0.gamma": [0.1]}, "algos.0"),
        ({"optimizer.lr": [0.1] * 20_000}, "20000 runs; at most"),
    ],
)
def test_mistakes_name_the_key(vary, words):
    config = make_config(benchmark="permuted_digits", overrides=SMALL)
    with pytest.raises(UserError) as error:
        list(map(build, members(config, vary=vary)))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_one_name_for_several_runs_is_refused():
    config = make_config(benchmark="permuted_digits", overrides={**SMALL, "run.name": "mine"})
    assert members(config, seeds=[4])[0].run_name() == "mine"
    with pytest.raises(UserError, match=r"run\.name: one name for several runs"):
        members(config, seeds="0-1")


def test_run_wants_one_seed():
    import lop

    config = make_config(benchmark="permuted_digits", overrides={**SMALL, "run.seeds": "0-1"})
    with pytest.raises(UserError, match=r"run\.seeds: .*lop\.members"):
        lop.run(config)


@pytest.fixture
def command(tmp_path):
    """Calls the command line with a small config."""
    data = micro.micro_data("permuted_digits", tmp_path, tmp_path / "results")
    path = tmp_path / "config.json"

    def call(*arguments, **run):
        path.write_text(json.dumps({**data, "run": {**data["run"], **run}}))
        return cli.main(["mnist", "-c", str(path), "--quiet", *arguments])

    return call


def test_the_command_trains_a_folder_of_each(tmp_path, command, capsys):
    arguments = ["--seeds", "0-2", "--vary", "optimizer.lr=1e-3,0.1"]
    assert command(*arguments) == cli.FINISHED
    runs = load(tmp_path / "results").runs
    assert sorted(zip(runs["lr"], runs["seed"], strict=True)) == [
        (lr, seed) for lr in (0.001, 0.1) for seed in range(3)
    ]
    assert re.search(r"6 runs: 6 finished, mean online accuracy \d+\.\d\d% \+- ", capsys.readouterr().out)
    assert command("--set", "optimizer.lr=0.1", "--seed", "1") == cli.FINISHED  # one of them: reported
    assert len(load(tmp_path / "results").runs) == 6


def test_seeds_in_a_config_and_one_of_them_by_index(tmp_path, command):
    assert command("--index", "7", seeds="0-1") == cli.FINISHED
    assert load(tmp_path / "results").runs["seed"].tolist() == [7]
    assert command(seeds="0-1") == cli.FINISHED
    assert sorted(load(tmp_path / "results").runs["seed"]) == [0, 1, 7]


def test_mistakes_on_the_command_line(command, capsys):
    for arguments, words in (
        (["--seeds", "0-1", "--seed", "3"], "--seeds: give several seeds or one"),
        (["--seeds", "x"], "seeds: expected numbers and ranges"),
        (["--vary", "optimizer.lr"], "--vary"),
        (["--vary", "optimizer.lr=a,b"], "optimizer.lr: expected numbers"),
        (["--vary", "optimizer.lr="], "optimizer.lr: expected numbers"),
    ):
        assert command(*arguments) == cli.USER_ERROR
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_exit_statuses_of_several(command, monkeypatch, capsys):
    with monkeypatch.context() as patch:

        def due(request):
            request.reason = "test"
            return True

        patch.setattr("lop.training.stopping.StopRequest.due", due)
        assert command("--seeds", "0-1") == cli.RESUME_ME
    assert "2 runs: 2 interrupted" in (out := capsys.readouterr().out)
    assert "stopped (test) and saved: run the same command again" in out
    assert command("--seeds", "0-1") == cli.FINISHED
    arguments = ["--vary", "optimizer.lr=0.01,1e6", "--set", "net.hidden=[50,50,50]", "--set", "run.on_divergence=stop"]
    assert command(*arguments) == cli.FAILED
    assert "1 finished, 1 diverged" in capsys.readouterr().out
