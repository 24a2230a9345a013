import json
from types import SimpleNamespace

import pytest

from lop import notebook
from lop.notebook import bring_earlier, describe, plan, run_all, runs
from lop.plan import members
from lop.runner import RunResult
from lop.utils.errors import MissingDataError, UserError


def test_the_default_is_sassha_beside_plain_sgd_on_the_embedded_digits():
    chosen, plain = plan()
    assert (chosen.optimizer.name, chosen.benchmark.name) == ("sassha", "permuted_digits")
    assert (plain.optimizer.name, plain.algos) == ("sgd", [])
    assert (plain.benchmark, plain.net, plain.run) == (chosen.benchmark, chosen.net, chosen.run)


def test_parameters_reach_their_place_in_the_config():
    settings = {"seed": 3, "num_tasks": 7, "dataset": "digits", "time_limit_hours": 11.5, "resume": "never"}
    chosen, plain = plan(optimizer="adam", lr=0.02, algos="sdp, ema", overrides={"net.hidden": [5]}, **settings)
    assert chosen.optimizer.options["lr"] == 0.02
    assert [algo.name for algo in chosen.algos] == ["sdp", "ema"]
    for config in (chosen, plain):
        assert config.net.options["hidden"] == [5]
        assert (config.run.seed, config.run.time_limit_hours, config.run.resume) == (3, 11.5, "never")
        assert config.benchmark.options["num_tasks"] == 7
    assert plain.optimizer.options["lr"] == plan()[1].optimizer.options["lr"]


def test_options_of_the_method_do_not_reach_the_baseline():
    overrides = "optimizer.rho=0.3, algos.0.gamma=0.2, net.hidden=[4, 6]"
    chosen, plain = plan(algos=["sdp"], overrides=overrides)
    assert (chosen.optimizer.options["rho"], chosen.algos[0].options["gamma"]) == (0.3, 0.2)
    assert (plain.algos, plain.net.options["hidden"]) == ([], [4, 6])


def test_a_config_file_is_the_base(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "benchmark: {name: permuted_digits, num_tasks: 4}\noptimizer: {name: adahessian, lr: 0.07}\nalgos: [ema]\n"
    )
    chosen, plain = plan(config=str(path), seed=5)
    assert (chosen.optimizer.name, chosen.optimizer.options["lr"]) == ("adahessian", 0.07)
    assert [algo.name for algo in chosen.algos] == ["ema"]
    assert (plain.optimizer.name, plain.algos, plain.benchmark.options["num_tasks"]) == ("sgd", [], 4)
    assert plan(config=str(path), optimizer="sassha")[0].optimizer.name == "sassha"


def test_the_baseline_is_the_benchmarks_own():
    chosen, plain = plan(benchmark="rl_ant", optimizer="sassha", algos="l2")
    assert (chosen.optimizer.name, plain.optimizer.name, plain.algos) == ("sassha", "adam", [])


def test_plain_sgd_needs_no_baseline_beside_it():
    assert len(plan(optimizer="sgd")) == 1
    assert len(plan(optimizer="sgd", lr=0.77)) == 2
    assert len(plan(baseline=False)) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"optimizer": "sasha"}, "unknown optimizer 'sasha'.*sassha"),
        ({"algos": "spd"}, "unknown intervention .*'spd'.*sdp"),
        ({"benchmark": "permuted_mnits"}, "permuted_mnist"),
        ({"overrides": "optimizer.rh=1"}, "optimizer.rh"),
        ({"num_tasks": "many"}, "benchmark.num_tasks"),
    ],
)
def test_a_mistake_is_one_line(parameters, message):
    with pytest.raises(UserError, match=message) as caught:
        plan(**parameters)
    assert "\n" not in str(caught.value)


def test_kaggle_has_its_own_folders(monkeypatch):
    assert notebook.place() == "local"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert notebook.place() == "kaggle"
    run = plan()[0].run
    assert (run.results_dir, run.data_dir) == ("/kaggle/working/results", "/kaggle/input")
    assert plan(results_dir="mine")[0].run.results_dir == "mine"
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert notebook.place() == "colab"


def test_runs_share_one_time_limit_and_stop_after_an_interrupted_one(monkeypatch, capsys):
    clock, limits = iter([0.0, 0.0, 3600.0]), []
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def fake(configs, progress, summaries, share):
        limits.append((configs[0].run.time_limit_hours, len(configs), summaries))
        status = "finished" if len(limits) == 1 else "interrupted"
        return [RunResult(c.run_name(), status, None, None, None, False, "time limit") for c in configs]

    monkeypatch.setattr(runs, "run_population", fake)
    sassha, sgd = plan(time_limit_hours=3)
    configs = [*members(sassha, seeds="0-1"), sgd, *plan(optimizer="adam", baseline=False)]
    results = run_all(configs)
    assert limits == [(3.0, 2, True), (2.0, 1, False)]  # the seeds of a method together
    assert [result.status for result in results] == ["finished", "finished", "interrupted"]
    assert configs[0].run.time_limit_hours == 3  # the caller's configs are left alone
    assert "run this notebook again" in capsys.readouterr().out


def test_describe_names_every_part():
    text = describe(plan(optimizer="sassha", lr=0.125, algos=["ema"])[0])
    assert "optimizer: sassha (lr 0.125" in text
    assert "benchmark: permuted_digits" in text
    assert "algo: ema" in text
    assert max(map(len, text.splitlines())) <= 96  # or the page breaks it within a word


def finished_run(folder, steps_done: int, **parameters):
    """A run folder as another session left it."""
    (config,) = plan(baseline=False, results_dir=str(folder), **parameters)
    path = folder / config.run_name()
    path.mkdir(parents=True)
    (path / "config.json").write_text(config.model_dump_json())
    (path / "checkpoint.pt").write_bytes(b"weights")
    (path / "status.json").write_text(json.dumps({"state": "interrupted", "tasks_done": steps_done}))
    return config, path


def test_the_furthest_earlier_run_is_brought_and_left_as_it_was(tmp_path):
    attached = tmp_path / "input"
    finished_run(attached / "notebook-1" / "results", 3)
    _, far = finished_run(attached / "datasets" / "me" / "notebook-2" / "results", 7)
    finished_run(attached / "other" / "results", 9, seed=5)  # another experiment
    for path in attached.rglob("*"):
        path.chmod(path.stat().st_mode & 0o555)
    (config,) = plan(baseline=False, results_dir=str(tmp_path / "results"))
    assert bring_earlier(config, attached) == far
    brought = tmp_path / "results" / config.run_name()
    assert json.loads((brought / "status.json").read_text())["tasks_done"] == 7
    (brought / "status.json").write_text("{}")  # writable
    assert bring_earlier(config, attached) is None  # what is there stays
    assert (brought / "status.json").read_text() == "{}"
    assert json.loads((far / "status.json").read_text())["tasks_done"] == 7


def test_what_is_brought_is_a_runs_and_nothing_else_is_touched(tmp_path):
    attached, results = tmp_path / "input", tmp_path / "results"
    config, found = finished_run(attached / "earlier" / "results", 3)
    (found / "checkpoint.pt").rename(found / "checkpoint.previous.pt")  # one of the two is enough
    (found / "weights").mkdir()
    (found / "weights" / "task00000_after.pt").write_bytes(b"w")
    (found / "weights").chmod(0o555)
    (found / "foreign.txt").write_text("not ours")
    neighbour = results / f"{config.run_name()}.part"  # a name that a run can have
    mine = results / f".{config.run_name()}.part"
    for folder in (neighbour, mine):
        folder.mkdir(parents=True)
        (folder / "precious.txt").write_text("theirs")
    (config,) = plan(baseline=False, results_dir=str(results))
    with pytest.raises(UserError, match="holds files that are not a run's"):
        bring_earlier(config, attached)
    assert (mine / "precious.txt").read_text() == "theirs"
    (mine / "precious.txt").unlink()
    assert bring_earlier(config, attached) == found
    brought = {path.name for path in (results / config.run_name()).iterdir()}
    assert brought == {".run-folder", "config.json", "status.json", "checkpoint.previous.pt", "weights"}
    (results / config.run_name() / "weights" / "task00000_after.pt").unlink()
    assert (neighbour / "precious.txt").read_text() == "theirs"


def test_half_a_copy_that_a_kill_left_is_begun_anew(tmp_path, monkeypatch):
    attached, results = tmp_path / "input", tmp_path / "results"
    finished_run(attached / "earlier" / "results", 3)
    (config,) = plan(baseline=False, results_dir=str(results))

    def killed(source, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            bring_earlier(config, attached)
    assert not (results / config.run_name()).exists()
    assert bring_earlier(config, attached)
    assert (results / config.run_name() / "checkpoint.pt").read_bytes() == b"weights"


def test_an_ended_run_is_brought_before_one_that_goes_on_and_a_damaged_one_never(tmp_path):
    attached = tmp_path / "input"
    finished_run(attached / "a" / "results", 9)
    _, damaged = finished_run(attached / "b" / "results", 10)
    (damaged / "status.json").write_text("[")
    _, ended = finished_run(attached / "c" / "results", 9)
    (ended / "status.json").write_text(json.dumps({"state": "finished", "tasks_done": 9}))
    (ended / "checkpoint.pt").unlink()  # to save space
    _, lost = finished_run(attached / "d" / "results", 11)
    (lost / "checkpoint.pt").unlink()  # nothing to go on from
    (config,) = plan(baseline=False, results_dir=str(tmp_path / "results"))
    assert bring_earlier(config, attached) == ended


def test_nothing_is_brought_from_nowhere(tmp_path):
    (config,) = plan(baseline=False, results_dir=str(tmp_path / "results"))
    assert bring_earlier(config, tmp_path / "nowhere") is None
    assert not (tmp_path / "results").exists()


def test_several_methods_have_kaggles_folders_too(monkeypatch):
    """A family notebook gives `data_dir=None`, which must not hide the data sets that are attached."""
    seen = []

    def run_all(configs, **_):
        seen.extend(configs)
        raise MissingDataError("python download_data.py mnist", "mnist")

    monkeypatch.setattr(runs, "run_all", run_all)
    monkeypatch.setattr(runs, "preview", lambda configs, labels: None)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    notebook.run_methods("permuted_digits", ["bp"], data_dir=None, results_dir="results/mine", num_tasks=None)
    (config,) = seen
    assert (config.run.results_dir, config.run.data_dir) == ("results/mine", "/kaggle/input")


def test_kaggles_folders_can_be_moved(monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("LOP_KAGGLE_ROOT", "/elsewhere")
    run = plan()[0].run
    assert (run.results_dir, run.data_dir) == ("/elsewhere/working/results", "/elsewhere/input")
