"""What to call the runs at hand: different experiments have different labels, seeds of one experiment the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from lop.config import Config

ABSENT = object()  # of a key that a config does not have


def differing(configs: Mapping[str, Config]) -> dict[str, dict[str, Any]]:
    """By run: the config keys, by dotted path, in which runs of one method on one benchmark differ, with its values.

    Method: optimizer and interventions. Left out are keys in which all agree and what does not change the experiment:
    the seed, the name, where and for how long to run. Options of a part are compared among runs that have that part.
    """
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for run, config in configs.items():
        groups.setdefault((config.label, config.benchmark.name), {})[run] = _settings(config)
    found = {}
    for settings in groups.values():
        for run, own in settings.items():
            net = own["net.name"]
            others = {r: s for r, s in settings.items() if s["net.name"] == net}
            keys = [k for k in own if _differs(k, others.values() if k.startswith("net.") else settings.values())]
            if _differs("net.name", settings.values()):
                keys.append("net.name")
            found[run] = {key: own[key] for key in dict.fromkeys(keys)}
    return found


def _settings(config: Config) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    data["algos"] = dict(enumerate(a for a in data["algos"] if a["name"] != "bp"))
    data["run"] = {"on_divergence": data["run"]["on_divergence"]}
    flat: dict[str, Any] = {}

    def add(node: dict, path: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                add(value, f"{path}{key}.")
            else:
                flat[f"{path}{key}"] = value

    add(data, "")
    return flat


def _differs(key: str, settings: Iterable[Mapping[str, Any]]) -> bool:
    values = [one.get(key, ABSENT) for one in settings]
    return any(value != values[0] for value in values)


def compose(method: str, settings: Mapping[str, Any]) -> str:
    """`sassha lr=0.01, hidden=[100]`; the full path where two keys end alike."""
    last = [key.rsplit(".", 1)[-1] for key in settings]
    names = [
        key if last.count(short) > 1 or short == "name" else short for key, short in zip(settings, last, strict=True)
    ]
    shown = [f"{name}={_text(value)}" for name, value in zip(names, settings.values(), strict=True)]
    return f"{method} {', '.join(shown)}" if shown else method


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def without(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """The table with labels that do not tell values of one key apart: for plots over that key."""
    if not {"method", "settings"} <= set(table.columns) or table.empty:
        return table
    pairs = table[["method", "settings"]].drop_duplicates()
    labels = {}
    for method, text in pairs.itertuples(index=False):
        settings = {name: value for name, value in json.loads(text).items() if name != key}
        labels[method, text] = compose(method, settings)
    own = pd.Series([labels[pair] for pair in zip(table["method"], table["settings"], strict=True)], index=table.index)
    plain = [compose(method, json.loads(text)) for method, text in zip(table["method"], table["settings"], strict=True)]
    return table.assign(label=own.where(table["label"] == plain, table["label"]))
