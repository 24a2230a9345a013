"""Live progress in its three places, on a clock that only moves when the test says so."""

import io
import sys
from types import SimpleNamespace

import IPython.display
import pytest

from lop.training import progress as module
from lop.training.progress import NOTEBOOK_SECONDS, TEXT_SECONDS, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(module, "in_notebook", lambda: False)


@pytest.mark.usefixtures("elsewhere")
def test_a_log_gets_a_line_now_and_then(clock, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    progress = Progress("run")
    progress.update(0, 4, 100, 1000, [("accuracy", 0.25)])
    assert log.getvalue() == ""
    clock.now += TEXT_SECONDS
    progress.update(1, 4, 400, 1000, [("accuracy", 0.5)])
    progress.update(1, 4, 500, 1000, [("accuracy", 0.75)])
    (line,) = log.getvalue().splitlines()
    assert "400/1000" in line
    assert "task 2/4, accuracy 50.0%" in line
    assert "20.00step/s" in line  # 300 steps in 15 s: those before a resume are not of this process
    clock.now += TEXT_SECONDS
    progress.update(4, 4, 1000, 1000, [("accuracy", 0.75)])
    assert "task 4/4" in log.getvalue().splitlines()[1]  # after the last task there is none more


@pytest.mark.usefixtures("clock", "elsewhere")
def test_a_terminal_gets_a_bar_that_starts_where_the_run_goes_on(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress("run")
    progress.update(0, 2, 600, 1000, [("loss", 2.0)])
    bar = progress._bar
    assert (bar.initial, bar.n, bar.total) == (600, 600, 1000)
    progress.update(1, 2, 1000, 1000, [("loss", 1.0)])
    assert bar.n == 1000
    progress.close()
    assert "task 2/2, loss 1.000" in terminal.getvalue()
    assert progress._bar is None  # the next run has a bar of its own


def test_a_notebook_has_one_display_that_ends_with_the_last_state(clock, monkeypatch):
    shown = []

    def display(text, display_id):
        assert display_id
        shown.append(["new", repr(text)])
        return SimpleNamespace(update=lambda text: shown.append(["again", repr(text)]))

    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    progress = Progress("run")
    progress.update(0, 2, 10, 100, [("accuracy", 0.1)])
    progress.update(0, 2, 20, 100, [("accuracy", 0.2)])  # too early
    clock.now += NOTEBOOK_SECONDS
    progress.update(0, 2, 30, 100, [("accuracy", 0.3)])
    progress.update(1, 2, 100, 100, [("accuracy", 0.4)])
    progress.close()
    assert [how for how, _ in shown] == ["new", "again", "again"]
    assert [f"{step}/100" in text for step, (_, text) in zip((10, 30, 100), shown, strict=True)] == [True] * 3


def test_a_notebook_has_the_current_tasks_summary_and_a_log_has_all(clock, monkeypatch, capsys):
    shown = []

    def display(text, display_id):
        shown.append(repr(text))
        return SimpleNamespace(update=lambda text: shown.append(repr(text)))

    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    progress = Progress("run")
    progress.summary("task 0")
    progress.summary("task 1")
    progress.close()
    assert shown == ["task 0", "task 1", ""]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(module, "in_notebook", lambda: False)
    progress.summary("task 0")
    progress.summary("task 1")
    assert capsys.readouterr().out == "task 0\ntask 1\n"


def test_several_runs_are_their_number_mean_and_spread(clock, monkeypatch):
    monkeypatch.setattr(module, "in_notebook", lambda: False)
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    progress = Progress("runs")
    for values in ([0.2, 0.4], [0.5, float("nan")], [float("nan")] * 2):
        clock.now += TEXT_SECONDS
        progress.update(0, 1, 1, 2, [("accuracy", value) for value in values])
    several, lost, none = log.getvalue().splitlines()
    assert "2 runs, accuracy 30.0% +- 14.1%" in several
    assert "2 runs, accuracy 50.0%, 1 without" in lost
    assert "2 runs, accuracy nan" in none
