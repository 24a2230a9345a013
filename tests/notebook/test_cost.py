"""The cost of methods whose runs were not timed together: plain steps side by side."""

import pandas as pd
import pytest
import torch
from bitwise import same

from lop.algos import INTERVENTIONS, Intervention
from lop.notebook import cost
from lop.notebook.cost import Stepper, costs, step_seconds
from lop.plan import make_config
from lop.runner import run
from lop.runs import load


def small(tmp_path, optimizer="sgd", **more):
    given = {"benchmark.num_tasks": 1, "benchmark.epochs": 1, "net.hidden": [5], "run.results_dir": str(tmp_path)}
    given |= {"run.device": "cpu", "run.threads": 1, "run.diagnostics": False, **more}
    return make_config(benchmark="permuted_digits", optimizer=optimizer, overrides=given)


@pytest.fixture
def two_days(tmp_path, monkeypatch):
    """SGD's run timed in one session, Adam's in another."""
    for session, optimizer in (("s1", "sgd"), ("s2", "adam")):
        monkeypatch.setattr("lop.training.member.session", lambda session=session: session)
        run(small(tmp_path, optimizer), summaries=False)
    return load(tmp_path)


def test_runs_of_two_sessions_are_timed_side_by_side_here(two_days, monkeypatch):
    seen = {}

    def step_seconds(configs):
        seen.update({label: config.optimizer.name for label, config in configs.items()})
        return pd.Series({"sgd": 2.0, "adam": 3.0})

    monkeypatch.setattr(cost, "step_seconds", step_seconds)
    table = costs(two_days, "sgd")
    assert seen == {"sgd": "sgd", "adam": "adam"}
    assert table["cost"].to_dict() == {"sgd": 1.0, "adam": 1.5}
    assert table["comparable"].all()
    monkeypatch.setattr(cost, "step_seconds", lambda configs: None)
    assert costs(two_days, "sgd")["comparable"].to_dict() == {"sgd": True, "adam": False}
    assert costs(two_days, "sassha") is None


def test_timings_of_one_session_are_taken_as_they_are(two_days, monkeypatch):
    monkeypatch.setattr(cost, "step_seconds", lambda configs: pytest.fail("nothing is to be measured"))
    timing = two_days.timing.assign(session="s1", load=0.5, diagnostics_seconds=0.0)
    timing["seconds"] = timing["label"].map({"sgd": 2.0, "adam": 5.0})
    table = costs(type(two_days)(runs=two_days.runs, timing=timing), "sgd")
    assert table.loc["adam", "cost"] == 2.5


def test_steps_are_timed_in_turn_and_the_median_block_counts(tmp_path, monkeypatch):
    taken = []

    class Fake:
        def __init__(self, config):
            self.name = config.optimizer.name

        def seconds(self, steps):
            taken.append((self.name, steps))
            slow = len(taken) == 4  # something else ran meanwhile
            return steps * {"sgd": 0.001, "adam": 0.002}[self.name] * (50 if slow else 1)

    monkeypatch.setattr(cost, "Stepper", Fake)
    both = {name: small(tmp_path, name) for name in ("sgd", "adam")}
    table = step_seconds(both, seconds=0.3)
    assert taken == [("sgd", 1), ("adam", 1), *[("sgd", 20), ("adam", 20)] * 5]  # 0.3 s = 5 rounds of 20 x 3 ms
    assert table.to_dict() == pytest.approx({"sgd": 0.001, "adam": 0.002})
    taken.clear()
    assert step_seconds(both, seconds=0.01) is None  # too few steps to meet what happens every tenth


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "BLOCK", (1, 5))
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    results = run(small(tmp_path), summaries=False)
    files = {path: path.read_bytes() for path in results.folder.rglob("*") if path.is_file()}
    configs = {
        "sgd": small(tmp_path),
        "cbp": small(tmp_path, "adam", algos=[{"name": "cbp"}, {"name": "ema"}]),
    }
    configs["cbp"].run.threads = threads + 1
    seconds = step_seconds(configs, seconds=60)
    assert (seconds > 0).all()
    assert same(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_what_a_method_gathers_in_its_first_task_weighs(tmp_path, monkeypatch):
    """EWC has a penalty only once a task has ended, and each learner has its run's threads."""
    calls = []

    class Late(Intervention):
        def start_task(self, task):
            calls.append("start")

        def end_task(self, task):
            calls.append("end")

        def after_step(self, features):
            calls.append(torch.get_num_threads())

    monkeypatch.setitem(INTERVENTIONS, "ema", Late)
    stepper = Stepper(small(tmp_path, "sgd", algos=[{"name": "ema"}], **{"run.threads": 2}))
    torch.set_num_threads(1)
    stepper.seconds(3)
    torch.set_num_threads(1)
    assert calls == ["start", 2, 2, "end", "start", 2, 2, 2, 2, 2]


def test_what_cannot_be_timed_so_is_none(tmp_path):
    gone = small(tmp_path)
    gone.run.data_dir = str(tmp_path / "gone")
    assert step_seconds({"sgd": gone}) is None
    pytest.importorskip("gymnasium")
    assert step_seconds({"sgd": make_config(benchmark="rl_hopper")}) is None
