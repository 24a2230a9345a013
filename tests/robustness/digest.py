"""Digests of the tables of a dozen short runs: the same before and after a change that should change no number.

python tests/robustness/digest.py > before.txt        # and again after the change; compare with diff
"""

import hashlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "lop-src"))

from lop.plan import make_config
from lop.runner import run

DIGITS = {"benchmark.num_tasks": 3, "benchmark.epochs": 1, "net.hidden": [20, 20]}
REGRESSION = {"benchmark.num_tasks": 2, "benchmark.flip_every": 2000}
HOPPER = {"benchmark.num_tasks": 2, "benchmark.task_steps": 4096}
DATA = {"benchmark.dataset": "digits"}
LABELS = {**DATA, "benchmark.num_tasks": 2, "benchmark.epochs": 3, "benchmark.num_examples": 200}

RUNS = {
    "sgd": ("permuted_digits", "sgd", [], DIGITS),
    "adam+cbp+ema": ("permuted_digits", "adam", ["cbp", "ema"], DIGITS),
    "adahessian+redo+l2_init": ("permuted_digits", "adahessian", ["redo", "l2_init"], DIGITS),
    "sophiag+snr": ("permuted_digits", "sophiag", ["snr"], DIGITS),
    "sassha+sdp": ("permuted_digits", "sassha", ["sdp"], DIGITS),
    "msassha+shrink_and_perturb": ("permuted_digits", "msassha", ["shrink_and_perturb"], DIGITS),
    "kfac+gosc": ("permuted_digits", "kfac", ["gosc"], DIGITS),
    "shampoo+head_reset": ("permuted_digits", "shampoo", ["head_reset"], DIGITS),
    "sam+ewc+step_schedule": (
        "permuted_digits",
        "sam",
        ["ewc", {"name": "step_schedule", "milestones": [1]}],
        {**DIGITS, "benchmark.epochs": 2},
    ),
    "asam+network_reset": ("permuted_digits", "asam", ["network_reset"], DIGITS),
    "regression": ("slowly_changing_regression", "sgd", [], REGRESSION),
    "regression+cbp": ("slowly_changing_regression", "adam", ["cbp"], REGRESSION),
    "random labels": ("random_label_mnist", "adam", ["l2"], LABELS),
    "hopper": ("rl_hopper", "adam", ["cbp"], HOPPER),
}


def digests() -> dict[str, str]:
    """By run: of all its tables but the one of timings."""
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, (benchmark, optimizer, algos, options) in RUNS.items():
            overrides = {**options, "run.results_dir": temporary, "run.name": name.replace(" ", "_"), "run.threads": 1}
            config = make_config(benchmark=benchmark, optimizer=optimizer, algos=algos, overrides=overrides)
            folder = run(config, summaries=False).folder
            total = hashlib.sha256()
            for table in sorted(folder.glob("*.csv")):
                if table.name != "timing.csv":
                    total.update(table.name.encode() + table.read_bytes())
            found[name] = total.hexdigest()[:16]
    return found


if __name__ == "__main__":
    for name, digest in digests().items():
        print(f"{digest}  {name}")
