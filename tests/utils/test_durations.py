"""Durations in words."""

import pytest

from lop.utils.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (80, "80 seconds"),
        (100, "1.7 minutes"),
        (600, "10 minutes"),
        (7200, "2.0 hours"),
        (2e6, "23 days"),
    ],
)
def test_estimates_have_few_digits(seconds, text):
    assert duration(seconds) == text
