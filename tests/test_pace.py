"""How long a run takes, from its first steps: by a clock that the test holds."""

import itertools

import pytest

from lop.pace import TimedPopulation
from lop.plan import make_config


@pytest.mark.parametrize(("seconds", "most", "expected"), [(2.0, 20, 1.5), (100.0, 4, 2.5), (100.0, 1000, 6.5)])
def test_a_first_step_that_takes_hours_is_not_taken_for_the_others(monkeypatch, seconds, most, expected):
    config = make_config(
        benchmark="permuted_digits",
        overrides={"benchmark.num_tasks": 1, "benchmark.epochs": 1, "benchmark.examples_per_task": 208},
    )
    timed = TimedPopulation([config])  # 13 steps
    # each reading of the clock is later than the last by 10,000 s, then 1, 2, 3, ...
    clock = itertools.accumulate(itertools.chain([0, 10_000], itertools.count(1)))
    monkeypatch.setattr(timed, "_now", lambda: float(next(clock)))
    assert timed.step_seconds(seconds, most) == expected
