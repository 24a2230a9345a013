"""Kill runs with SIGKILL at random moments, resume them, and compare with runs that were left alone.

    python tests/robustness/kill.py --kills 50

Every run is a process of its own that executes the command line. It is killed at a random moment, or at a
random stage of one of the next files that are written (half of the bytes, all of them, before or after the rename).
Between kills a run is harmed (attacks.py): then it goes on to the same results, or is refused in one line and put back.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attacks
import micro

sys.path.insert(0, str(Path(__file__).parents[2] / "lop-src"))
from lop.cli import main as command_line
from lop.plan import BENCHMARKS
from lop.runs import ENDED, checkpoint, read_status
from lop.utils import files

# what a run imports late: once here, instead of in every fork
PRELOADED = ["torch._dynamo", "sklearn.datasets", "PIL.Image", "lop.rl.rollout", "mujoco", "gymnasium.envs.mujoco"]
CBP = {"name": "cbp", "replacement_rate": 0.2, "maturity_threshold": 2}
SCHEDULE = {"name": "step_schedule", "milestones": [1]}
LONGER = {"num_tasks": 6}
CASES: dict[str, dict] = {
    "digits sassha sdp cbp": {"benchmark": "permuted_digits", "optimizer": "sassha", "algos": ["sdp", CBP], **LONGER},
    "digits kfac": {"benchmark": "permuted_digits", "optimizer": "kfac", **LONGER},
    "digits shampoo l2_init": {"benchmark": "permuted_digits", "optimizer": "shampoo", "algos": ["l2_init"], **LONGER},
    "digits adam ema redo": {"benchmark": "permuted_mnist", "optimizer": "adam", "algos": ["ema", "redo"], **LONGER},
    "regression sgd cbp": {"benchmark": "slowly_changing_regression", "optimizer": "sgd", "algos": [CBP], **LONGER},
    "regression adahessian": {"benchmark": "slowly_changing_regression", "optimizer": "adahessian", **LONGER},
    "labels adamw ewc shrink": {
        "benchmark": "random_label_mnist",
        "optimizer": "adamw",
        "algos": ["ewc", "shrink_and_perturb"],
        **LONGER,
    },
    "cifar sgd schedule early_stopping head_reset": {
        "benchmark": "incremental_cifar",
        "optimizer": "sgd",
        "algos": [SCHEDULE, "early_stopping", "head_reset"],
    },
    "imagenet sophiag snr": {"benchmark": "imagenet", "optimizer": "sophiag", "algos": ["snr"], **LONGER},
    "five plus one sam gosc": {"benchmark": "five_plus_one_cifar", "optimizer": "sam", "algos": ["gosc"], **LONGER},
    "digits adam cbp by three": {
        "benchmark": "permuted_digits",
        "optimizer": "adam",
        "algos": [CBP],
        "seeds": [0, 1, 2],
        **LONGER,
    },
    "ant sassha cbp": {"benchmark": "rl_slippery_ant", "optimizer": "sassha", "algos": [CBP]},
}


def cases() -> list[str]:
    """Those that can run here: reinforcement learning needs Gymnasium."""
    return [name for name, case in CASES.items() if case["benchmark"] in micro.NAMES]


class Case:
    """One config, run whole once, then again and again with kills."""

    def __init__(self, name: str, folder: Path, data_dir: Path, seed: int):
        self.name, self.folder, self.random = name, folder / name.replace(" ", "_"), random.Random(f"{seed}/{name}")
        self.folder.mkdir(parents=True)
        settings = dict(CASES[name])
        num_tasks, seeds = settings.pop("num_tasks", None), settings.pop("seeds", None)
        data = micro.micro_data(data_dir=data_dir, results_dir=self.folder / "unused", **settings)
        if num_tasks:
            data["benchmark"]["num_tasks"] = num_tasks
        data["run"] |= {"checkpoint_every": 2, "keep_weights": True, "threads": 1, "seeds": seeds}
        self.config = self.folder / "config.json"
        self.config.write_text(json.dumps(data))
        self.family = BENCHMARKS[settings["benchmark"]].family
        started = time.monotonic()
        code = self.process("whole", None)()
        if code != 0:
            raise SystemExit(f"{name}: the run that nobody killed ended with {code}, see {self.folder}/output.txt")
        self.seconds = time.monotonic() - started
        self.round = self.kills = self.resumes = 0
        self.lost: list[str] = []
        self.where, self.attacks = Counter(), Counter()
        self.data_dir = data_dir

    def process(
        self, results: str, stage: tuple[int, str] | None, *more: str, first: Callable[[], None] = lambda: None
    ) -> Callable[[float | None], int]:
        """Start a run; returns what waits for it, or kills it after so many seconds, and gives its exit status.

        more: arguments. first: what the process does before it runs.
        """
        arguments = [
            self.family,
            "-c",
            str(self.config),
            "--quiet",
            "--set",
            f"run.results_dir={self.folder / results}",
            *more,
        ]
        child = os.fork()
        if child == 0:
            with open(self.folder / "output.txt", "ab", buffering=0) as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            if stage is not None:
                die_while_writing(*stage)
            status = 1
            first()
            try:
                status = command_line(arguments)
            finally:
                os._exit(status)

        def finish(kill_after: float | None = None) -> int:
            if kill_after is not None:
                time.sleep(kill_after)
                os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        return finish

    def kill_once(self) -> None:
        """One more process of the current round, killed if it lives long enough; a finished round is compared."""
        if self.random.random() < 0.3:
            self.attack()
        results = self.results
        if (self.folder / results).exists():
            self.resumes += 1
        stage = None
        if self.random.random() < 0.5:
            stage = (self.random.randrange(12), self.random.choice(STAGES))
            code = self.process(results, stage)()
        else:
            code = self.process(results, None)(self.random.uniform(0, 0.7 * self.seconds))
        if code == -signal.SIGKILL:
            self.kills += 1
            self.where[stage[1] if stage else "random moment"] += 1
        elif code == 0:
            self.compare()
        else:
            self.lost.append(f"{results}: exit status {code}")
            self.round += 1

    def attack(self) -> None:
        """Harm the stopped run, if there is one, and start it: it is refused, and put back, or ends as the whole."""
        folder = next((self.folder / self.results).glob("*/.run-folder"), self.folder).parent
        if folder == self.folder.parent or read_status(folder).get("state") in (None, *ENDED):
            return
        name = self.random.choice([*attacks.HARMS, *attacks.DURING, "changed data"])
        backup, output = self.folder / "backup", self.folder / "output.txt"
        shutil.copytree(folder, backup)
        more, first = [], lambda: None
        if name in attacks.HARMS:
            attacks.HARMS[name](folder, self.random)
        elif name in attacks.DURING:
            first = attacks.in_mid_run(name, folder, self.random)
        else:
            more = ["--set", f"run.data_dir={attacks.changed_data(self.data_dir, self.folder / 'changed')}"]
        os.truncate(output, 0)
        code = self.process(self.results, None, *more, first=first)()
        if name == "foreign files":
            self.lost += [f"{name}: {n}" for n in attacks.FOREIGN if (folder / n).read_text() != "precious"]
            for foreign in attacks.FOREIGN:
                (folder / foreign).unlink()
        if code == 0:
            self.attacks[f"{name}: went on"] += 1
            self.compare()
            shutil.rmtree(backup)
            return
        self.attacks[f"{name}: refused"] += 1
        text = output.read_text()
        if code != 2 or not attacks.refused_in_one_line(text):
            self.lost.append(f"{name}: exit status {code}: {text[-500:]}")
        if name == "full disk":  # nothing is put back: room is made
            shutil.rmtree(backup)
        else:
            attacks.undo(folder, backup)

    def compare(self) -> None:
        for whole in (path.parent for path in (self.folder / "whole").glob("*/config.json")):
            parts = self.folder / self.results / whole.name
            self.lost += [f"{self.results}: {difference}" for difference in micro.differences(whole, parts)]
        self.round += 1

    @property
    def results(self) -> str:
        return f"killed{self.round}"

    def finish(self) -> None:
        """Let the current round go on to its end, and compare."""
        if (self.folder / self.results).exists():
            self.resumes += 1
            code = self.process(self.results, None)()
            if code != 0:
                self.lost.append(f"{self.results}: exit status {code}")
            else:
                self.compare()


PER_ATTACK = 4  # kills, at most
STAGES = ("half written", "before the rename", "after the rename")


def die_while_writing(number: int, stage: str) -> None:
    """Make this process kill itself at a stage of the write after `number` more."""
    write_atomic, replace, left = files.write_atomic, os.replace, [number]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write_or_die(path: Path, write: Callable, before_rename: Callable | None = None) -> None:
        left[0] -= 1
        if left[0] >= 0 or stage != "half written":
            return write_atomic(path, write, before_rename)

        def half(file) -> None:
            write(file)
            file.truncate(file.tell() // 2)
            file.flush()
            os.fsync(file.fileno())
            die()

        return write_atomic(path, half)

    def replace_or_die(source, target) -> None:
        if left[0] < 0 and stage == "before the rename":
            die()
        replace(source, target)
        if left[0] < 0 and stage == "after the rename":
            die()

    files.write_atomic = checkpoint.write_atomic = write_or_die
    os.replace = replace_or_die


def run(kills: int, seed: int, names: list[str], folder: Path) -> dict:
    """Kill and harm in turns over the cases until that was often enough. Returns the counts and what was lost."""
    for module in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    data_dir = micro.write_data(folder / "data")
    running = [Case(name, folder, data_dir, seed) for name in names]
    turn = 0
    while (
        sum(case.kills for case in running) < kills
        or sum(sum(case.attacks.values()) for case in running) < kills // PER_ATTACK
    ):
        running[turn % len(running)].kill_once()
        turn += 1
    for case in running:
        case.finish()
    where = sum((case.where for case in running), Counter())
    return {
        "cases": len(running),
        "kills": sum(case.kills for case in running),
        "where": dict(where),
        "attacks": dict(sum((case.attacks for case in running), Counter())),
        "resumes": sum(case.resumes for case in running),
        "runs compared": sum(case.round for case in running),
        "lost": [f"{case.name}: {what}" for case in running for what in case.lost],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=cases(), metavar="CASE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(options.kills, options.seed, options.cases, Path(folder))
    print(json.dumps(counts, indent=2))
    return 1 if counts["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
