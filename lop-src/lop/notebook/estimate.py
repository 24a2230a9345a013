"""Before training: what will be trained, and about how long that takes on this machine, from a few timed steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lop.capacity import fitting
from lop.config import Config
from lop.data.sources import sharing_images
from lop.notebook.beside import at_once, by_label, has_ended
from lop.pace import TimedPopulation
from lop.runs import read_status, run_folder_of
from lop.utils.devices import find_device, kept_threads
from lop.utils.durations import duration
from lop.utils.place import place

SESSION_HOURS = 8.5  # on Kaggle, where a session ends after 9 to 12 hours and takes with it what is not saved
SECONDS = 0.6  # about how long to time the steps of one method
MOST_STEPS = 60
SAMPLE = 16  # runs side by side that are timed; more of them are taken to be as long in proportion
LONG = 3600.0  # seconds from which on the way to less is pointed out


@dataclass(frozen=True)
class Pace:
    """seconds: of all that is left to do; tasks, steps: of one run; data: which, from where."""

    seconds: float
    tasks: int
    steps: int
    data: str


def time_limit(configs: Sequence[Config]) -> float | None:
    """Hours that all of these runs may take together; None: as long as they need."""
    given = configs[0].run.time_limit_hours
    return SESSION_HOURS if given is None and place() == "kaggle" else given


def preview(configs: Sequence[Config], *, labels: Sequence[str] | None = None) -> None:
    """Print what these runs are, and about how long what is left of them takes.

    labels: of the methods, whose runs follow each other; default: the configs'. Raises what building the runs raises,
    before anything is trained.
    """
    labels = labels or [config.label for config in configs]
    methods = by_label(configs, labels)
    left = [[config for config in runs if not has_ended(config)] for _, runs in methods]
    with sharing_images():
        paces = [measure(runs) for runs in left if runs]
    first, seeds = configs[0], max(len(members) for _, members in methods)
    names = ", ".join(label for label, _ in methods)
    count = "one seed" if seeds == 1 else f"{seeds} seeds" + (" each" if len(methods) > 1 else "")
    what = f"{names} ({count}) on {first.benchmark.name}"
    device = find_device(first.run.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {os.cpu_count()} cores"
    machine = f"place: {place()}, {machine}"
    if not paces:
        print(f"{what}: trained earlier ({machine}).")
        return
    seconds = _in_turns([pace.seconds for pace in paces], at_once(methods))
    print(
        f"Training {what}: {paces[0].tasks} tasks of {paces[0].steps // paces[0].tasks:,} steps, "
        f"about {duration(seconds)}."
    )
    print(f"{machine}. Data: {paces[0].data}.")
    if hint := advice(seconds, time_limit(configs)):
        print(hint)


def _in_turns(seconds: Sequence[float], count: int) -> float:
    """Until all are done, where so many are worked on at once, each by whoever is free first."""
    busy = [0.0] * count
    for each in seconds:
        busy[busy.index(min(busy))] += each
    return max(busy)


def measure(configs: Sequence[Config]) -> Pace:
    """How long these runs, side by side, take for what is left of them; their folders are only read.

    A population of them is built, a few of its steps in the first task and one member's diagnostics are timed.
    """
    fit = fitting(configs[0]) if len(configs) > 1 else None
    sample = configs[: min(SAMPLE, fit or SAMPLE)]
    with kept_threads():
        timed = TimedPopulation(sample)
        diagnosed = timed.diagnostics_seconds() if configs[0].run.diagnostics else 0.0
        step = timed.step_seconds(SECONDS, MOST_STEPS) * len(configs) / len(sample)
    count = timed.stream.num_tasks
    done = min(read_status(run_folder_of(config)).get("tasks_done", 0) for config in configs)
    whole = timed.steps * step + count * len(configs) * diagnosed
    return Pace(whole * (1 - done / count), count, timed.steps, timed.stream.data_description)


def advice(seconds: float, limit_hours: float | None) -> str:
    """What to do where that is beyond the time limit or takes hours; nothing where it is neither."""
    shorter = "fewer tasks (num_tasks), fewer seeds or a GPU make it shorter"
    if limit_hours is not None and seconds > 3600 * limit_hours:
        return (
            f"That is more than the time limit of {limit_hours:g} hours: it stops cleanly before, "
            f"and goes on when it is run again; {shorter}."
        )
    if limit_hours is None and seconds > LONG:
        return f"That is long: {shorter}, and time_limit_hours stops it cleanly to go on another day."
    return ""
