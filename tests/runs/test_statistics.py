"""Numbers over seeds, against closed forms, published examples and slow computations."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lop.runs.statistics import (
    early_late,
    holm,
    mean_interval,
    paired_difference,
    sign_flip_test,
    window_of,
)


def test_the_interval_is_that_of_all_resamples():
    """Of three values all 27 resamples can be listed."""
    values = [1.0, 2.0, 6.0]
    means = sorted(sum(drawn) / 3 for drawn in itertools.product(values, repeat=3))
    found = mean_interval(values)
    assert (found.value, found.seeds) == (3.0, 3)
    assert found.low == pytest.approx(means[0])  # 1 of 27 is more than 2.5%
    assert found.high == pytest.approx(means[-1])
    assert found.decided
    assert mean_interval(values) == found
    assert not mean_interval([-1.0, 2.0, 6.0]).decided


def test_the_interval_is_as_wide_as_the_normal_one_where_that_holds():
    values = np.random.default_rng(3).normal(10, 2, 200)
    found = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)


def test_one_seed_decides_nothing():
    one, none = mean_interval([5.0, math.nan]), mean_interval([math.inf])
    assert (one.value, one.seeds, one.decided) == (5.0, 1, False)
    assert math.isnan(one.low)
    assert not mean_interval([5.0, 5.1]).decided  # nor do two
    assert (none.seeds, none.decided) == (0, False)
    assert math.isnan(none.value)


def test_differences_are_within_a_seed():
    ours = pd.Series({0: 0.51, 1: 0.91, 2: 0.71, 7: 0.0})
    theirs = pd.Series({2: 0.70, 1: 0.90, 0: 0.50, 3: 1.0})
    found = paired_difference(ours, theirs)
    assert found.seeds == 3
    assert found.value == pytest.approx(0.01)
    assert found.decided  # though the seeds differ by forty times that
    assert paired_difference(ours, pd.Series({0: 0.5})).seeds == 1
    assert paired_difference(ours, pd.Series({9: 0.5})).seeds == 0


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0, -0.5], [0.3, -0.2, 0.1, 0.4, 0.25, -0.05]])
def test_the_sign_flip_test_is_scipys(values):
    expected = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(values) == pytest.approx(expected.pvalue)


def test_the_least_p_value_and_many_differences():
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 32
    assert math.isnan(sign_flip_test([1.0]))
    assert sign_flip_test(np.arange(1.0, 31.0)) < 0.001
    assert sign_flip_test([0.1, -0.1] * 15) > 0.9


def test_holms_example():
    """Holm (1979), with four hypotheses: 0.01, 0.04, 0.03, 0.005 -> 0.03, 0.06, 0.06, 0.02."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": math.nan})
    assert {name: found[name] for name in "abcd"} == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert math.isnan(found["e"])
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_early_and_late_are_a_fifth_of_the_tasks():
    assert [window_of(tasks) for tasks in (1, 4, 5, 9, 10, 40)] == [1, 1, 1, 1, 2, 8]
    assert window_of(40, 3) == 3
    assert early_late(range(10)) == (0.5, 8.5)
    assert early_late([1.0, 3.0, math.nan, 5.0], window=2) == (2.0, 5.0)
