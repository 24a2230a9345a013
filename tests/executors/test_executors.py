"""What every executor has to do: carry out each job once, keep its folders, outlive a process that is lost."""

import importlib.util
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from in_process import Here
from works import TINY, die, tables, tiny_jobs, train_and_die_once

from lop.executors import LocalProcesses, Outcome, SlurmQueue, job_of, make_executor, populations, train
from lop.executors.parcels import moved, packed, plugin_sources, unpack
from lop.plan import make_config, members
from lop.runs import RunFolder
from lop.utils.errors import UserError

needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")
MINE = "import lop\nfrom lop.optimizers import OPTIMIZERS\nlop.optimizer('mine')(OPTIMIZERS['sassha'])\n"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """What this process can import, other processes can, too."""
    here = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, here)))


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param(lambda: LocalProcesses(parallel=2), id="local"),
        pytest.param(lambda: SlurmQueue(cluster="local", minutes=30), id="slurm", marks=needs_submitit),
    ],
)
def test_a_lost_process_is_replaced_and_all_tables_are_the_same(tmp_path, executor):
    outcomes = list(executor().run(tiny_jobs(tmp_path / "there"), train_and_die_once))
    assert sorted(outcome.state for outcome in outcomes) == ["finished"] * 4
    assert len(list((tmp_path / "there").glob("*.died"))) == 1
    list(Here().run(tiny_jobs(tmp_path / "here"), train))
    assert tables(tmp_path / "there") == tables(tmp_path / "here")
    assert len(tables(tmp_path / "here")) >= 4 * 3


def test_a_job_that_kills_every_process_has_failed_and_no_other(tmp_path):
    jobs = tiny_jobs(tmp_path)
    outcomes = {outcome.name: outcome for outcome in LocalProcesses(parallel=1).run(jobs, die)}
    assert {outcomes[name].state for name in jobs[0].names} == {"failed"}
    assert "its process was killed" in outcomes[jobs[0].names[0]].detail
    assert {outcomes[name].state for name in jobs[1].names} == {"finished"}


def limited(job, hours):
    """The job with this time limit for its runs."""
    runs = [{**config["run"], "time_limit_hours": hours} for config in job.configs]
    return replace(job, configs=[{**config, "run": run} for config, run in zip(job.configs, runs, strict=True)])


def test_a_job_whose_time_is_over_goes_back_into_the_queue(tmp_path):
    """It saves and stops before its end, and is submitted again until it has finished."""
    (job, _) = tiny_jobs(tmp_path, seeds="0")
    queue = SlurmQueue(minutes=240)
    assert queue._prepared(job).configs[0]["run"]["time_limit_hours"] == pytest.approx((240 - 2) / 60)
    submitted = []

    def submit(executor, jobs, work):
        submitted.append(sorted(jobs))
        hours = 1e-6 if len(submitted) == 1 else None
        return {number: Answered(work(asdict(limited(one, hours)))) for number, one in jobs.items()}

    queue._submit, queue._executor = submit, lambda folder: None
    assert [outcome.state for outcome in queue.run([job], train)] == ["finished"]
    assert submitted == [[0], [0]]


class Answered:
    """A task of submitit that has ended."""

    def __init__(self, outcomes):
        self.outcomes = outcomes

    def done(self):
        return True

    def result(self):
        return self.outcomes


def test_one_damaged_run_does_not_take_its_population_along(tmp_path):
    jobs = tiny_jobs(tmp_path)
    folder = jobs[0].folders()[1]
    folder.mkdir(parents=True)
    (folder / ".run-folder").touch()
    (folder / "status.json").write_text("[")
    outcomes = train(asdict(jobs[0]))
    assert [outcome.state for outcome in outcomes] == ["finished", "failed"]
    assert "not the status of a run" in outcomes[1].detail


def test_a_run_of_another_process_is_left_to_it(tmp_path):
    own = {**TINY, "run.results_dir": str(tmp_path)}
    config = make_config(benchmark="permuted_digits", optimizer="sgd", overrides=own)
    first, second = members(config, seeds="0-1")
    with RunFolder(first):
        outcomes = train(asdict(job_of([first, second])))
    assert [outcome.state for outcome in outcomes] == ["running elsewhere", "finished"]


def test_checkpoints_of_ended_runs_go_where_they_are_not_kept(tmp_path):
    (job, _) = tiny_jobs(tmp_path, seeds="0")
    train(asdict(replace(job, keep_checkpoints=False)))
    (folder,) = job.folders()
    assert not list(folder.glob("*.pt"))
    before = tables(tmp_path)
    assert train(asdict(job)) == [Outcome(job.names[0], "finished")]  # reported, not trained again
    assert tables(tmp_path) == before


def test_populations_are_of_one_kind_and_of_even_sizes(tmp_path):
    config = make_config(benchmark="permuted_digits", optimizer="sgd", overrides={"run.device": "cpu"})
    many = members(config, seeds="0-16", vary={"optimizer.lr": [0.1, 0.2]})
    assert [len(group) for group in populations(many)] == [11, 11, 12]
    wide = make_config(benchmark="permuted_digits", optimizer="sgd", overrides={"net.hidden": [7]})
    assert [len(group) for group in populations([config, wide, *members(config, seeds="1-2")])] == [3, 1]


def test_plugins_and_folders_travel(tmp_path):
    plugin = tmp_path / "mine_of_executors.py"
    plugin.write_text(MINE)
    (job, _) = tiny_jobs(tmp_path / "results", seeds="0", overrides={"run.plugins": [str(plugin)], "optimizer": "mine"})
    sources = plugin_sources(job)
    assert sources == {str(plugin): MINE}
    plugin.unlink()  # on another machine it is not there, and not loaded
    del sys.modules["mine_of_executors"]
    there = moved(job, tmp_path / "elsewhere", sources)
    assert [outcome.state for outcome in train(asdict(there))] == ["finished"]
    parcel, before = packed(there), tables(tmp_path / "results")
    for path in sorted(job.folders()[0].rglob("*"), reverse=True):
        path.unlink()
    unpack(parcel, job)
    assert tables(tmp_path / "results") == before
    assert not list(job.folders()[0].glob(".lock"))


def test_a_parcel_writes_nothing_outside_its_job(tmp_path):
    first, second = tiny_jobs(tmp_path, seeds="0")
    train(asdict(first))
    parcel = packed(first)
    for path in first.folders()[0].iterdir():
        path.unlink()
    unpack(parcel, second)
    assert list(first.folders()[0].iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "slurm", "minutes": 0}, "minutes must be > 0"),
        ({"name": "slurm", "partitoin": "gpu"}, "executor.partitoin: unknown key; did you mean 'partition'"),
        ({"name": "ray", "num_cpu": 1}, "executor.num_cpu: unknown key; did you mean 'num_cpus'"),
        ({"parallel": 2}, "executor expected a name"),
        ("kubernetes", "unknown executor 'kubernetes'"),
    ],
)
def test_mistakes_are_one_line(given, message):
    with pytest.raises(UserError, match=message):
        make_executor(given)
