"""What must hold on a GPU, against the CPU: one command, a table, a few minutes, no network.

python tests/gpu/check.py                      # all checks on cuda; exit status 1 where one fails
python tests/gpu/check.py --device pretended   # as far as a machine without a GPU can take them (see pretended.py)
python tests/gpu/check.py --only waiting memory

The differences are of the largest entry of a tensor. Random numbers are drawn on the CPU in both runs, as a GPU's
generators draw others; where a step is watched for waiting, they are the GPU's own. Nobody has run it on a GPU yet.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for the deterministic mode; before CUDA is there

import paths  # noqa: F401
import torch
from _timing import print_table
from agreement import interventions, metrics, nets, optimizers, populations, streams
from behaviour import memory, resume, runs, waiting

CHECKS = {
    check.__name__: check
    for check in (optimizers, interventions, nets, metrics, streams, populations, waiting, resume, runs, memory)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu or pretended")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), help="these checks")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU here: --device pretended runs what can be run without one", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rows, failed = [], []
    for name in options.only:
        started = time.perf_counter()
        for check in CHECKS[name](options.device):
            seconds, started = time.perf_counter() - started, time.perf_counter()
            verdict = "ok" if not check.failed else f"{len(check.failed)} FAILED"
            found = [check.what, check.cases, check.worst, check.worst_case, check.tolerance, verdict]
            rows.append([*found, f"{seconds:.0f}"])
            failed += [f"{check.what}: {line}" for line in check.failed]
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(f"{device}, torch {torch.__version__}")
    print_table(["check", "cases", "worst", "of", "tolerance", "", "seconds"], rows)
    print(*failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
