"""The short form of fuzz.py, and what a random search would find too seldom."""

from fuzz import fuzz


def test_random_configs_run_or_are_refused(tmp_path):
    counts, _ = fuzz(60, 0, tmp_path)
    assert counts["tried"] == 60
    assert counts["ran"] >= 10
    assert counts["refused"] >= 10
