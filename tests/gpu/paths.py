"""Where the checks find the package and what the other tests and the benchmarks share; imported before them."""

import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
sys.path.extend(str(_ROOT / folder) for folder in ("tests/gpu", "tests", "tests/robustness", "lop-src", "benchmarks"))
