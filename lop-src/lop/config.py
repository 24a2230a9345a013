"""The one config schema: load, override, refuse.

Knows no experiment: which names exist is looked up in `lop.plan`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from lop.utils.documents import DEPTH, parse_value, read_document
from lop.utils.errors import UserError, shown
from lop.utils.options import STRICT_KEYS, Flag, checked, number
from lop.utils.ranges import seeds_of


def _known_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("expected auto, cpu, cuda, cuda:<index> or mps")
    return value


def _run_name(value: str) -> str:
    if not re.fullmatch(r"[\w.+=-]+", value):
        raise ValueError("expected letters, digits and _ . + = - alone")
    return value


def _population(value: Any) -> Any:
    if value == "auto":
        return value
    if not isinstance(value := number(value), int) or not 1 <= value <= MOST_AT_ONCE:
        raise ValueError(f"expected auto, or how many runs at once, 1 to {MOST_AT_ONCE}")
    return value


MOST_AT_ONCE = 10**9
Count = Annotated[int, BeforeValidator(number), Field(ge=1, le=10**9)]
Amount = Annotated[float, BeforeValidator(number), Field(gt=0, le=1e6)]
Threads = Annotated[int, BeforeValidator(number), Field(ge=1, le=4096)]


class Section(BaseModel):
    """A part chosen by name, with that part's own options beside it."""

    model_config = ConfigDict(extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Run(BaseModel):
    """How and where to run; changes no result but for `seed`, `device`, `threads` and `on_divergence`."""

    model_config = STRICT_KEYS
    seed: Annotated[int, BeforeValidator(number), Field(ge=0)] = 0
    seeds: Annotated[list[int], BeforeValidator(seeds_of)] | None = None  # "0-15": a run of each, as one population
    population: Annotated[Literal["auto"] | int, BeforeValidator(_population)] = "auto"  # auto: as many as fit
    device: Annotated[str, AfterValidator(_known_device)] = "auto"
    threads: Threads | None = None  # of torch; None: 1 for small nets on the CPU, else torch's choice
    results_dir: str = "results"
    data_dir: str | None = None
    plugins: list[str] = []  # files (mine.py) or modules that register what this config names
    name: Annotated[str, AfterValidator(_run_name)] | None = None
    time_limit_hours: Amount | None = None
    resume: Literal["auto", "never", "require"] = "auto"
    checkpoint_every: Count | None = None  # steps; None: at task ends and every checkpoint_minutes
    checkpoint_minutes: Amount = 10.0
    on_divergence: Literal["continue", "stop", "reset_network"] = "continue"
    keep_weights: Flag = False
    tensorboard: Flag = False  # scalars for TensorBoard, beside the tables
    diagnostics: Flag = True


def method_label(optimizer: str, algos: list[str]) -> str:
    """For legends: `sassha + sdp`."""
    return " + ".join([optimizer, *(name for name in algos if name != "bp")])


class Config(BaseModel):
    """A whole run."""

    model_config = STRICT_KEYS
    benchmark: Section
    net: Section
    optimizer: Section
    algos: list[Section] = []
    metrics: dict[str, Any] = {}
    run: Run = Run()

    @property
    def label(self) -> str:
        """For legends: `sassha + sdp`."""
        return method_label(self.optimizer.name, [algo.name for algo in self.algos])

    def experiment(self) -> dict[str, Any]:
        """What tells one experiment from another: all but how and where to run it."""
        data = self.model_dump(mode="json")
        data["run"] = {key: data["run"][key] for key in ("seed", "on_divergence", "diagnostics")}
        return data

    def kind(self) -> str:
        """Alike for configs that one population can train: they differ in the seed and in numbers of the method."""
        data = self.model_dump(mode="json")
        for key in ("seed", "name", "on_divergence"):
            del data["run"][key]
        for key in ("optimizer", "algos"):
            data[key] = _without_numbers(data[key])
        return json.dumps(data, sort_keys=True)

    def run_name(self) -> str:
        """The run folder's name: the same for the same experiment, whatever else `run` says about how to run it."""
        if self.run.name:
            return self.run.name
        digest = hashlib.blake2b(json.dumps(self.experiment(), sort_keys=True).encode(), digest_size=4).hexdigest()
        method = self.label.replace(" + ", "+").replace(":", "-")
        return f"{self.benchmark.name}-{method}-s{self.run.seed}-{digest}"


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def read_file(
    path: str | Path, what: str = "config", content: str = "sections (benchmark, net, ...)"
) -> dict[str, Any]:
    """A file (JSON or YAML) as a dict. what and content: it is and it should hold, for messages.

    Raises UserError when it cannot be read (`lop.utils.documents`) or is not a mapping.
    """
    data = read_document(path, what)
    if not isinstance(data, dict):
        raise UserError(f"{what} {path}: expected {content}, got {type(data).__name__}")
    return data


def parse_override(text: str, source: str = "--set ") -> tuple[str, Any]:
    """`optimizer.lr=0.01` -> ("optimizer.lr", 0.01). The value is YAML. source: of the text, for messages."""
    path, sign, value = text.partition("=")
    if not sign or not path.strip():
        raise UserError(f"{source}{shown(text)}: expected key.path=value, e.g. optimizer.lr=0.01")
    return path.strip(), parse_value(value, f"{source}{path.strip()}={value}")


LISTS_OF_SECTIONS = (["algos"], ["metrics", "extras"])


def override(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `data` with the value at a dotted path replaced; list items by number (`algos.0.gamma`).

    What stands there as a bare name becomes a section, so that its options can be set.
    """
    data = copy.deepcopy(data)
    *parents, last = path.split(".")
    node: Any = data
    for i, part in enumerate(parents):
        here = ".".join(parents[: i + 1])
        if isinstance(node, list):
            number = _index(node, part, here)
            if isinstance(node[number], str) and parents[:i] in LISTS_OF_SECTIONS:
                node[number] = {"name": node[number]}
            node = node[number]
        elif isinstance(node, dict):
            if isinstance(node.get(part), str) and part in ("benchmark", "net", "optimizer"):
                node[part] = {"name": node[part]}
            node = node.setdefault(part, {})
        else:
            raise UserError(f"nothing can be set inside a {type(node).__name__}", option=here, joint=": ")
    if isinstance(node, list):
        node[_index(node, last, path)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UserError(f"nothing can be set inside a {type(node).__name__}", option=path, joint=": ")
    return data


def _index(items: list, part: str, path: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", part) or int(part) >= len(items):
        raise UserError(f"expected an item's number below {len(items)}", option=path, joint=": ")
    return int(part)


def validate(data: dict[str, Any]) -> Config:
    """The config of a dict. Sections may be given as a bare name. Raises UserError with the key's path."""
    _check_plain(data, "config")
    data = dict(data)
    for key in ("benchmark", "net", "optimizer"):
        if isinstance(data.get(key), str):
            data[key] = {"name": data[key]}
    if isinstance(data.get("algos"), list):
        data["algos"] = [{"name": a} if isinstance(a, str) else a for a in data["algos"]]
    return checked(Config, data, "")


def _check_plain(value: Any, path: str, depth: int = 0) -> None:
    """Refuse what JSON and YAML can hold but no option means: dates, bytes, sets, NUL in a text, a 400-digit number."""
    if depth > DEPTH:
        raise UserError("nested too deeply", option=f"{path[:60]}...", joint=": ")
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if depth else str(key)
            if not isinstance(key, str) or not key.isprintable():
                raise UserError(f"keys must be text, got {shown(key)}", option=path, joint=": ")
            _check_plain(item, here, depth + 1)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{path}.{i}", depth + 1)
    elif isinstance(value, str):
        if "\0" in value or value != value.encode(errors="replace").decode():
            raise UserError(f"not a valid text, got {shown(value)}", option=path, joint=": ")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"too large a number, got {shown(value)}", option=path, joint=": ")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"expected a finite number, got {value}", option=path, joint=": ")
    elif value is not None and not isinstance(value, int | float):
        raise UserError(
            f"expected a number, text, list or mapping, got {type(value).__name__}", option=path, joint=": "
        )
