"""The command line: `lop mnist -c CONFIG [--set optimizer.lr=0.01]`, or `python lop-src/main.py mnist ...`."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from lop.analysis import analyze, parse_tasks
from lop.config import Config, parse_override
from lop.plan import BENCHMARKS, make_config, members
from lop.runner import RunResult, run_population
from lop.training.progress import Progress
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require
from lop.utils.shipped import copy_notebooks

FINISHED, FAILED, USER_ERROR, RESUME_ME, INTERRUPTED = 0, 1, 2, 75, 130
FAMILIES = sorted({benchmark.family for benchmark in BENCHMARKS.values()})
VARY = "and of each number, e.g. optimizer.lr=0.01,0.03; may be given again for another key"
ANY = "run"  # the command for any family


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 finished, 1 a bug or a diverged run that was told to stop, 2 a user's mistake, 75 resume me.

    130: Ctrl-C before the run began, or a second one that did not wait for the save.
    """
    options = parser().parse_args(arguments)
    try:
        status = options.command(options)
        sys.stdout.flush()  # what cannot be printed is said here, not by the interpreter's end
        return status
    except UserError as error:
        if options.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        if options.debug:
            traceback.print_exc()
        print("interrupted: the last checkpoint is kept; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as with `| head`: nobody reads what is printed
        print_nowhere()
        return RESUME_ME
    except OSError as error:
        if not output_fails():
            raise
        print_nowhere()
        print(
            f"error: standard output cannot be written ({error.strerror}); what is saved is kept: "
            "make room, or print elsewhere, and run the same command again",
            file=sys.stderr,
        )
        return USER_ERROR


def output_fails() -> bool:
    """Whether printing is what failed: it fails again."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def print_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(description="Train on a continual benchmark.")
    commands = main_parser.add_subparsers(dest="family", required=True)
    for family in [*FAMILIES, ANY]:
        names = [name for name, benchmark in BENCHMARKS.items() if benchmark.family == family]
        command = commands.add_parser(family, help=", ".join(names) or "any benchmark, also one that a plugin brings")
        command.add_argument("-c", "--config", help="config file, JSON or YAML; see the benchmark's cfg/ folder")
        command.add_argument("--benchmark", choices=names or None, help="when no config names one")
        command.add_argument("--optimizer", help="use this one, with the benchmark's settings for it")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
        command.add_argument("--index", "--seed", "-s", type=int, dest="seed", help="run index; fixes the seed")
        command.add_argument("--seeds", metavar="0-15", help="a run of each side by side, e.g. 0-15 or 0,3,7-9")
        command.add_argument("--vary", action="append", default=[], metavar="KEY=NUMBER,NUMBER,...", help=VARY)
        command.add_argument("--quiet", action="store_true", help="no progress and no summaries")
        command.set_defaults(command=train)
    command = commands.add_parser("notebook", help="copy the project's notebooks out, to run and to change them")
    command.add_argument("folder", nargs="?", default=".", help="where to; default: here")
    command.set_defaults(command=copy_out)
    command = commands.add_parser("analyze", help="diagnostics from the weights a run kept (run.keep_weights)")
    command.add_argument("folder", help="a run folder")
    command.add_argument("--metrics", default="", help="extra diagnostics by name, separated by commas")
    command.add_argument("--tasks", help="numbers and ranges, e.g. 0,5,10-12; default: all that were kept")
    command.set_defaults(command=analyze_folder)
    command = commands.add_parser("sweep", help="every cell of a grid: an executed notebook and a run folder each")
    command.add_argument("-c", "--config", required=True, help="grid file, YAML or JSON; see the README")
    command.add_argument("--parallel", type=int, help="processes at once; default: the grid file's")
    command.set_defaults(command=sweep_grid)
    command = commands.add_parser("study", help="methods tuned alike and compared: tables, report, answer")
    command.add_argument("-c", "--config", required=True, help="study file, YAML or JSON; see docs/studies.md")
    command.add_argument("--executor", help="local, ray, slurm or a plugin's; default: the file's")
    command.add_argument("--methods", default="", help="only these and the reference, separated by commas")
    command.add_argument("--benchmarks", default="", help="only on these; results then go to RESULTS_DIR-part")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    command.add_argument("--dry-run", action="store_true", help="what would be trained, how long, how much memory")
    command.add_argument("--no-report", action="store_true", help="tables and answer only, no notebook and no page")
    command.set_defaults(command=study)
    command = commands.add_parser("status", help="what runs in a study's or any results folder, and what has ended")
    command.add_argument("folder", help="a study's results_dir, or any folder of runs")
    command.set_defaults(command=show_status)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help="show where an error came from")
    return main_parser


def train(options: argparse.Namespace) -> int:
    config = config_of(options)
    vary = dict(parse_numbers(text) for text in options.vary)
    configs = members(config, seeds=options.seeds, vary=vary)
    progress = None if options.quiet else Progress(config.label)
    results = run_population(configs, progress, summaries=not options.quiet)
    status = report(results)
    for one, result in zip(configs, results, strict=True):
        if result.status == "finished":
            accuracies = result.tasks["online_accuracy"].tolist()
            if line := BENCHMARKS[one.benchmark.name].below_sgd(one.optimizer.name, accuracies):
                print(line)
    return status


def parse_numbers(text: str) -> tuple[str, Any]:
    """`optimizer.lr=0.01,0.03` -> ("optimizer.lr", [0.01, 0.03])."""
    path, sign, values = text.partition("=")
    return parse_override(
        f"{path}{sign}[{values}]" if sign and not values.lstrip().startswith("[") else text, "--vary "
    )


def copy_out(options: argparse.Namespace) -> int:
    for path in copy_notebooks(options.folder):
        print(path)
    return FINISHED


def analyze_folder(options: argparse.Namespace) -> int:
    extras = _names(options.metrics)
    tasks = None if options.tasks is None else parse_tasks(options.tasks)
    table = analyze(options.folder, extras=extras, tasks=tasks)
    print(table.T.to_string(header=False))
    print(f"tables analysis_*.csv in {options.folder}")
    return FINISHED


def sweep_grid(options: argparse.Namespace) -> int:
    from lop.executors import ELSEWHERE, LocalProcesses  # the others need no notebook machinery
    from lop.sweep import read_grid, sweep

    grid = read_grid(options.config)
    require(COUNT, **{"--parallel": options.parallel})
    outcomes = sweep(grid, LocalProcesses(parallel=options.parallel) if options.parallel else None)
    counts = Counter(outcome.state for outcome in outcomes)
    print(f"{', '.join(f'{count} {state}' for state, count in counts.items())}; tables in {grid.results_dir}")
    if failed := [outcome for outcome in outcomes if outcome.state == "failed"]:
        print("failed:", *(f"  {outcome.name}: {outcome.detail}" for outcome in failed), sep="\n", file=sys.stderr)
        return FAILED
    return RESUME_ME if counts["interrupted"] or counts[ELSEWHERE] else FINISHED


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def study(options: argparse.Namespace) -> int:
    from lop.study import command  # the others need no notebook machinery

    methods, benchmarks = (_names(text) for text in (options.methods, options.benchmarks))
    overrides = command.part(options.config, methods, benchmarks) if methods or benchmarks else {}
    overrides |= dict(parse_override(text) for text in options.overrides)
    if options.executor is not None:
        overrides["executor"] = options.executor
    if options.dry_run:
        print(command.dry_run(options.config, overrides))
        return FINISHED
    result = command.run(options.config, overrides, report=not options.no_report)
    return RESUME_ME if result.interrupted else FAILED if result.failed else FINISHED


def show_status(options: argparse.Namespace) -> int:
    from lop.study.view import status_lines

    print("\n".join(status_lines(Path(options.folder))))
    return FINISHED


def config_of(options: argparse.Namespace) -> Config:
    overrides = dict(parse_override(text) for text in options.overrides)
    if options.seed is not None:
        if options.seeds is not None:
            raise UserError("--seeds: give several seeds or one (--seed, --index), not both")
        overrides |= {"run.seed": options.seed, "run.seeds": None}
    benchmark = options.benchmark
    if options.config is None and benchmark is None:
        if options.family == ANY:
            raise UserError("run: name a benchmark or a config, e.g. --benchmark permuted_digits or -c my.yaml")
        benchmark = next(name for name, known in BENCHMARKS.items() if known.family == options.family)
    config = make_config(options.config, benchmark=benchmark, optimizer=options.optimizer, overrides=overrides)
    family = BENCHMARKS[config.benchmark.name].family
    if options.family not in (family, ANY):
        raise UserError(f"benchmark.name: {config.benchmark.name!r} is run by `{family}`, not {options.family}")
    return config


def report(results: list[RunResult]) -> int:
    """Say what came of the runs; the exit status is 75 where any can go on, else 1 where any was stopped."""
    for result in results if len(results) == 1 else []:
        if result.status == "interrupted":
            print(f"stopped ({result.reason}) and saved: {result.folder}; run the same command again to go on")
        else:
            tasks = f"{len(result.tasks)} tasks{mean_accuracy(results)}"
            print(f"{result.status}: {tasks}; tables in {result.folder}")
    counts = Counter(result.status for result in results)
    if len(results) > 1:
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        print(f"{len(results)} runs: {states}{mean_accuracy(results)}; tables in {results[0].folder.parent}")
        if reasons := {result.reason for result in results if result.status == "interrupted"}:
            print(f"stopped ({', '.join(map(str, reasons))}) and saved: run the same command again to go on")
    return RESUME_ME if counts["interrupted"] else FAILED if counts["diverged"] else FINISHED


def mean_accuracy(results: list[RunResult]) -> str:
    """Over all tasks of each run, of several with the standard deviation; empty where none is measured."""
    measured = [run.tasks["online_accuracy"].mean() for run in results if len(run.tasks)]
    measured = [value for value in measured if math.isfinite(value)]
    if not measured:
        return ""
    spread = f" +- {statistics.stdev(measured):.2%}" if len(measured) > 1 else ""
    return f", mean online accuracy {statistics.fmean(measured):.2%}{spread}"
