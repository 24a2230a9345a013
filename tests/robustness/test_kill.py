"""The short form of kill.py: a few SIGKILLs and attacks, nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

CASES = [
    "digits sassha sdp cbp",
    "digits adam cbp by three",
    "regression adahessian",
    "cifar sgd schedule early_stopping head_reset",
]


def test_sigkill_at_random_moments_loses_nothing():
    # a process of its own: it forks, which a process that has run torch must not
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), "--kills", "9", "--cases", *CASES]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    counts = json.loads(result.stdout)
    assert counts["kills"] >= 9
    assert sum(counts["attacks"].values()) >= 2
    assert counts["runs compared"] >= len(CASES)
    assert counts["lost"] == []
