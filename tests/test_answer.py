"""What the README's first screen and docs/answer.md say in numbers stands in the committed tables of the studies."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULT = re.compile(r"(?<![\w.])\d+\.\d+(?:%| points)")  # a share or a difference: settings are written otherwise


def results(text: str) -> set[str]:
    return {found.replace(" points", "").rstrip("%") for found in RESULT.findall(text)}


def committed() -> set[str]:
    tables = [path.read_text() for path in ROOT.glob("studies/*/*.md")]
    return {number for text in tables for number in re.findall(r"(?<![\w.])\d+\.\d+", text)}


@pytest.mark.parametrize("name", ["docs/answer.md", "README.md"])
def test_every_result_stands_in_a_committed_table(name):
    text = (ROOT / name).read_text()
    found = results(text.split("## Three ways to run")[0])
    assert found, "no result is given"
    assert found <= committed(), sorted(found - committed())


def test_a_result_that_no_table_has_is_seen():
    assert results("lr 0.0475 gives 83.57% and loses 99.99 points, p 0.003") == {"83.57", "99.99"}
