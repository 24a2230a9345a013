"""What `lop.runs.load` costs: CPU seconds for so many run folders, and per folder.

`python benchmarks/reading.py [--runs 2000]` writes them into a temporary folder and reads them once.
"""

import argparse
import tempfile
import time
from pathlib import Path

from lop.config import Config, validate
from lop.runs import RunFolder, load

TASKS, COLUMNS, LAYERS, BINS = 20, 25, 3, 10


def write_run(folder: Path, seed: int) -> None:
    """A run of twenty tasks with the usual tables."""
    sections = {"benchmark": "permuted_digits", "net": "mlp", "optimizer": {"name": "sgd", "lr": 0.01}}
    config: Config = validate({**sections, "run": {"results_dir": str(folder), "seed": seed}})
    with RunFolder(config) as run:
        names = [f"diagnostic_{i}" for i in range(COLUMNS)]
        tasks, phases = range(TASKS), ("before", "after")
        run.tables["tasks"].append([{"task": t, **dict.fromkeys(names, seed + t / 7)} for t in tasks])
        run.tables["online"].append([{"task": t, "bin": b, "loss": t / 3} for t in tasks for b in range(BINS)])
        rows = [
            {"task": t, "phase": p, "layer": i, "rank": t / 9} for t in tasks for p in phases for i in range(LAYERS)
        ]
        run.tables["layers"].append(rows)
        run.tables["timing"].append([{"task": t, "seconds": t / 11} for t in tasks])
        run.set_status("finished", tasks_done=TASKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.runs):
            write_run(Path(name), seed)
        started = time.process_time()
        results = load(name)
        seconds = time.process_time() - started
    print(f"{len(results.runs)} runs, {len(results.online)} online rows")
    print(f"{seconds:.2f} s of CPU, {1000 * seconds / options.runs:.2f} ms per run")


if __name__ == "__main__":
    main()
