"""The page on one's own model: its blocks run one after the other, and print what it says they print."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs/own-model.md"


def test_every_block_of_the_page_runs(capsys):
    pytest.importorskip("lightning", reason="needs Lightning: pip install lightning")
    text = PAGE.read_text()
    blocks = re.findall(r"```python\n(.*?)```\n", text, flags=re.S)
    assert len(blocks) == 5
    names: dict = {}
    printed = []
    with torch.random.fork_rng():
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)
            printed.append(capsys.readouterr().out)
    table = names["monitor"].table
    assert list(table["task"]) == list(range(8))
    assert table["loss_after"].lt(table["loss_before"]).all()
    assert names["figure"].axes
    assert isinstance(names["callback"].monitor.table, pd.DataFrame)
    shown = re.findall(r"```\n((?:[\w.]+: .*\n|\.\.\.\n)+)```\n", text)
    assert len(shown) == 2
    for expected, out in zip(shown, (printed[1], printed[3]), strict=True):
        for line in expected.replace("...\n", "").splitlines():
            assert line in out.splitlines()
    assert (PAGE.parent / "own-model.png").exists()
