"""The time limit, on a clock that only moves when the test says so."""

import json
import signal

import micro
import pytest
import torch

from lop import runner as run_module
from lop.cli import main
from lop.runner import run
from lop.training.learner import Learner
from lop.training.loop import Loop
from lop.training.member import Member
from lop.training.stopping import StopRequest


class Clock:
    """Stands for the module `time` where a run measures; a training step, a save and an evaluation take their time."""

    def __init__(self, monkeypatch, step=0.0, save=0.0, evaluation=0.0):
        self.now, self.save, self.saves, self.steps = 1000.0, save, [], 0
        for module in ("stopping", "clock", "member"):
            monkeypatch.setattr(f"lop.training.{module}.time", self)
        learn, write, before = Learner.learn, Member.state_dict, Loop._begin

        def slow_step(learner, x, y):
            self.steps += 1
            self.now += step(self.steps) if callable(step) else step
            return learn(learner, x, y)

        def slow_save(member):
            self.now += self.save
            self.saves.append(self.now)
            return write(member)

        def slow_evaluation(loop):
            self.now += evaluation
            before(loop)

        monkeypatch.setattr(Learner, "learn", slow_step)
        monkeypatch.setattr(Member, "state_dict", slow_save)
        monkeypatch.setattr(Loop, "_begin", slow_evaluation)

    def monotonic(self) -> float:
        return self.now


def limited(data_dir, folder, hours, **overrides):
    overrides = {"benchmark.num_tasks": 8, "run.time_limit_hours": hours, **overrides}
    return micro.micro_config("permuted_digits", data_dir, folder, overrides=overrides)


@pytest.mark.parametrize(("step", "save"), [(600.0, 0.0), (60.0, 300.0), (1700.0, 100.0), (lambda n: 40.0 * n, 30.0)])
def test_the_last_checkpoint_is_in_time(tmp_path, data_dir, monkeypatch, step, save):
    """Hours of steps, the limit is one hour: every session is over before it, and each gets on by a step at least."""
    whole = run(limited(data_dir, tmp_path / "whole", None), summaries=False)
    with monkeypatch.context() as patch:
        clock, sessions = Clock(patch, step, save), 0
        config = limited(data_dir, tmp_path / "parts", 1.0)
        while True:
            started, steps = clock.now, clock.steps
            result = run(config, summaries=False)
            sessions += 1
            assert clock.steps > steps or result.status == "finished"
            assert clock.now - started <= 3600
            if result.status == "finished":
                break
            assert (result.status, result.reason) == ("interrupted", "time limit")
            assert clock.saves[-1] == clock.now  # the last thing that takes time
    assert sessions > 1
    assert micro.differences(whole.folder, result.folder) == []


def test_a_session_is_used(tmp_path, data_dir, monkeypatch):
    """Stopping early costs: with steps of a minute, no more than three minutes of an hour are left over."""
    clock = Clock(monkeypatch, 60.0)
    result = run(limited(data_dir, tmp_path, 1.0, **{"benchmark.num_tasks": 40}), summaries=False)
    assert result.status == "interrupted"
    assert 3600 - 180 <= clock.now - 1000 <= 3600


def test_a_slow_evaluation_counts_as_the_longest_pause(tmp_path, data_dir, monkeypatch):
    """Ten minutes before every task: when less than twice that is left, no more is begun."""
    clock = Clock(monkeypatch, 1.0, evaluation=600.0)
    result = run(limited(data_dir, tmp_path, 1.0, **{"benchmark.num_tasks": 40}), summaries=False)
    assert result.status == "interrupted"
    assert clock.now - 1000 <= 3600
    assert clock.now - 1000 > 3600 - 3 * 600


def test_loading_the_data_counts_but_is_no_step(tmp_path, data_dir, monkeypatch):
    clock = Clock(monkeypatch, 1.0)
    make_loop = run_module.make_loop

    def slowly(*args):
        clock.now += 1800
        return make_loop(*args)

    monkeypatch.setattr(run_module, "make_loop", slowly)
    result = run(limited(data_dir, tmp_path, 0.505, **{"benchmark.num_tasks": 40}), summaries=False)
    assert result.status == "interrupted"
    assert 1800 + 10 <= clock.now - 1000 <= 1818  # 18 seconds are left, and used


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_ask_for_a_stop_and_a_second_one_insists(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    insisted = []
    signal.signal(number, lambda *_: insisted.append(True))
    try:
        with StopRequest() as stop:
            assert not stop.due()
            signal.raise_signal(number)
            assert stop.due()
            assert stop.reason == name
            assert not insisted
            signal.raise_signal(number)
            assert insisted == [True]
        signal.raise_signal(number)
        assert insisted == [True, True]  # as before the run
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.due()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def arguments(data_dir, tmp_path):
    def write(family="mnist", **data):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**micro.micro_data("permuted_digits", data_dir, tmp_path / "results"), **data}))
        return [family, "-c", str(path), "--quiet"]

    return write


def test_exit_statuses_and_last_words(arguments, capsys):
    assert main([*arguments(), "--set", "run.time_limit_hours=1e-9"]) == 75
    assert "run the same command again to go on" in capsys.readouterr().out
    assert main(arguments()) == 0
    assert "finished: 2 tasks" in capsys.readouterr().out
    diverging = ("optimizer.lr=1e6", "net.activation=linear", "run.on_divergence=stop")
    assert main([*arguments(), *(word for text in diverging for word in ("--set", text))]) == 1
    assert "diverged" in capsys.readouterr().out


def test_mistakes_are_one_line_and_a_traceback_is_on_request(arguments, capsys):
    wrong = [*arguments(), "--set", "optimizer.lrr=1"]
    assert main(wrong) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: optimizer.lrr: unknown key; did you mean 'lr'")
    assert len(message.splitlines()) == 1
    assert main([*wrong, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["cifar", *arguments()[1:]]) == 2
    assert "`mnist`, not cifar" in capsys.readouterr().err


def test_ctrl_c_is_one_line(arguments, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lop.training.loop.Loop._begin", interrupted)
    assert main(arguments()) == 130
    error = capsys.readouterr().err
    assert error.startswith("interrupted: the last checkpoint is kept")
    assert len(error.splitlines()) == 1


def test_a_bug_is_not_taken_for_a_mistake(arguments, monkeypatch):
    def broken(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("lop.training.loop.Loop._begin", broken)
    with pytest.raises(KeyError):
        main(arguments())


def test_more_than_the_memory_is_one_line(arguments, capsys, monkeypatch):
    huge = {"name": "mlp", "hidden": [10**9, 10**9]}
    assert main(arguments(net=huge)) == 2
    assert capsys.readouterr().err.startswith("error: net")
    monkeypatch.setattr("lop.utils.memory.total_memory", lambda device: 1000)
    assert main(arguments()) == 2
    assert capsys.readouterr().err.startswith("error: net: the weights alone need")
    monkeypatch.undo()

    def out_of_memory(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore lines")

    monkeypatch.setattr("lop.training.loop.Loop._begin", out_of_memory)
    assert main(arguments()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: out of memory (CUDA out of memory")
    assert len(error.splitlines()) == 1
