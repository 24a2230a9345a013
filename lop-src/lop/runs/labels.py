"""What to call the runs at hand: different experiments have different labels, seeds of one experiment the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

ABSENT = object()  # of a key that a config does not have


def differing(configs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By run: the config keys, by dotted path, in which runs of one method on one benchmark differ, with its values.

    configs: resolved ones, as in config.json. Method: optimizer and interventions. Left out are keys in which all
    agree and what does not change the experiment: the seed, the name, where and for how long to run. Options of a
    part are compared among runs that have that part.
    """
    groups: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for run, config in configs.items():
        own = _settings(config)
        method = [own["optimizer.name"], *(algo["name"] for algo in config["algos"] if algo["name"] != "bp")]
        groups.setdefault((own["benchmark.name"], *method), {})[run] = own
    found = {}
    for settings in groups.values():
        varying = _varying(settings.values())
        nets = {own["net.name"] for own in settings.values()}
        varying_nets = {net: _varying(s for s in settings.values() if s["net.name"] == net) for net in nets}
        for run, own in settings.items():
            of_net = varying_nets[own["net.name"]]
            keys = [key for key in own if key in (of_net if key.startswith("net.") else varying)]
            found[run] = {key: own[key] for key in [*keys, *(["net.name"] if len(nets) > 1 else [])]}
    return found


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    algos = dict(enumerate(a for a in config["algos"] if a["name"] != "bp"))
    data = {**config, "algos": algos, "run": {"on_divergence": config["run"]["on_divergence"]}}
    flat: dict[str, Any] = {}

    def add(node: dict, path: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                add(value, f"{path}{key}.")
            else:
                flat[f"{path}{key}"] = value

    add(data, "")
    return flat


def _varying(settings: Iterable[Mapping[str, Any]]) -> set[str]:
    """The keys that have not one value in all."""
    settings = list(settings)
    first = settings[0]
    return {
        key for own in settings for key in own.keys() | first.keys() if own.get(key, ABSENT) != first.get(key, ABSENT)
    }


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
