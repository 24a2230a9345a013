"""What a notebook is asked to train: its parameters cell, papermill, or the form where somebody sits in front of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from lop.config import Config, parse_value, read_file
from lop.notebook.places import check_keep, drive_folder, gpu_defaults
from lop.plan import BENCHMARKS, members, plan
from lop.utils.documents import plain_scalar
from lop.utils.errors import UserError

# what the parameters cell of run-expr has, and its values there: None, or nothing chosen, means the default
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("optimizer", "benchmark")),
    "algos": [],
    **dict.fromkeys(("seeds", "seed", "num_tasks", "dataset", "lr", "settings", "config")),
    "overrides": {},
    "baseline": True,
    **dict.fromkeys(("data_dir", "results_dir", "time_limit_hours", "resume", "device", "keep")),
}


class NotYetError(Exception):
    """Not a mistake: the form is on the page, and nothing was trained so that it can be used."""

    def __init__(self):
        super().__init__("nothing is trained yet: change the form above if you like, then Run All again")

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows for it."""
        return [str(self)]


class Choice:
    """given: what the parameters cell says; parameters: what is chosen now, by the form where there is one.

    waits: whether the first use stops the notebook, so that Run All shows the form before anything is trained.
    """

    def __init__(self, given: Mapping[str, Any], waits: bool = False):
        self.given = dict(given)
        self.parameters = {**DEFAULTS, **given}
        self.waits = waits

    def configs(self) -> list[Config]:
        """A config for every method and seed, the seeds of a method together.

        Raises NotYetError the first time where somebody can still choose; UserError for what cannot run.
        """
        if self.waits:
            self.waits = False
            raise NotYetError
        return configs_of(**self.parameters)

    @property
    def command(self) -> str:
        """The same choice on the command line."""
        words = ["papermill run-expr.ipynb out.ipynb"]
        for name, value in self.parameters.items():
            if value != DEFAULTS[name]:
                text = value if isinstance(value, str) else json.dumps(value)
                text = str(value) if isinstance(value, bool) else text
                raw = isinstance(value, str) and not isinstance(plain_scalar(value), str)  # papermill reads -p 1 as one
                words.append(f"{'-r' if raw else '-p'} {name} {shlex.quote(text)}")
        return " ".join(words)


def configs_of(**parameters: Any) -> list[Config]:
    """The runs that parameters describe: of the method and, with `baseline`, of the plain one beside it.

    seeds: `0-15` or a list; seed: a single one. Where neither is given here or in the config, the benchmark's own
    (`Benchmark.seeds`). keep: "drive": results go to Google Drive; see `lop.notebook.places`. Other parameters: as for
    `lop.plan.plan`. On Kaggle with a GPU the defaults are larger. Raises UserError for what cannot run.
    """
    parameters |= gpu_defaults(parameters)
    seeds, seed, keep = (parameters.pop(name, None) for name in ("seeds", "seed", "keep"))
    check_keep(keep)
    if keep == "drive" and parameters.get("results_dir") is None:
        parameters["results_dir"] = drive_folder()
    if seed is not None and seeds is not None:
        raise UserError("give several seeds or one (seed), not both", option="seeds", joint=": ")
    methods = plan(**parameters, seed=seed)
    if seed is not None:
        seeds = [methods[0].run.seed]
    elif seeds is None and not _names_seeds(parameters):
        seeds = BENCHMARKS[methods[0].benchmark.name].seeds
    return [member for config in methods for member in members(config, seeds=seeds)]


def _names_seeds(parameters: Mapping[str, Any]) -> bool:
    """Whether the config file, or an override, says which seeds."""
    path, overrides = parameters.get("config"), parameters.get("overrides") or {}
    run = read_file(path).get("run") if path is not None else None
    named = "run.seed" in overrides if isinstance(overrides, str) else {"run.seed", "run.seeds"} & set(overrides)
    return bool(named) or (isinstance(run, dict) and not {"seed", "seeds"}.isdisjoint(run))


def parsed(text: str, name: str) -> Any:
    """What somebody typed for a parameter: nothing is the default, numbers and lists are read as in a config."""
    text = text.strip()
    if not text:
        return DEFAULTS[name]
    if text[:1] in "[{" or name in ("num_tasks", "lr", "time_limit_hours", "seed"):
        return parse_value(text, name)
    return text
