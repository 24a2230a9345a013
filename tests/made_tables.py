"""Small tables of runs with known values, in the columns of `lop.runs.load`."""

import numpy as np
import pandas as pd

from lop.nets import NETS

LAYERS = [layer.name for layer in NETS["mlp"]((4,), 2, hidden=[3, 3, 3]).hidden_layers()]  # as runs write them


def make_tasks(labels=("sgd", "sassha", "sassha + sdp"), seeds=2, num_tasks=6, regression=False) -> pd.DataFrame:
    """label i, seed s, task k: online accuracy 0.5 + 0.1 i + 0.02 s - 0.01 k, and diagnostics that follow from it."""
    rows = []
    for i, label in enumerate(labels):
        for seed in range(seeds):
            for task in range(num_tasks):
                accuracy = 0.5 + 0.1 * i + 0.02 * seed - 0.01 * task
                optimizer, _, algos = label.partition(" + ")
                row = {"run": f"{label}-{seed}", "benchmark": "permuted_digits", "optimizer": optimizer, "lr": 0.1}
                row |= {"algos": algos, "label": label, "seed": seed, "task": task, "steps": 100 * (task + 1)}
                row |= {"online_accuracy": np.nan if regression else accuracy, "online_loss": 1 - accuracy}
                row |= {"eff_rank_before": 20 + 100 * accuracy, "eff_rank_after": 10 - task}
                row |= {
                    "ntk_cond_before": 10.0 ** (task % 5),
                    "ntk_cond_after": 10.0 ** (task % 4),
                    "ntk_churn_after": 0.1,
                }
                row |= {"stable_rank_before": 5 + task % 3, "stable_rank_after": 5}
                row |= {"dormant_proportion_before": 0.1, "dormant_proportion_after": 0.01 * task}
                row |= {"test_acc_before": 0.1, "test_acc_after": np.nan if regression else accuracy + 0.05}
                rows.append(row | {"diverged_step": -1})
    return pd.DataFrame(rows)


def make_layers(labels=("sgd", "sassha"), num_tasks=4) -> pd.DataFrame:
    rows = []
    for i, label in enumerate(labels):
        for task in range(num_tasks):
            for phase in ("before", "after"):
                for layer, name in enumerate(LAYERS):
                    row = {"run": label, "label": label, "task": task, "phase": phase, "layer": layer, "name": name}
                    row |= {"eff_rank": 10 - task + layer, "stable_rank": 8 - layer, "approx_rank": 3 + i}
                    rows.append(row | {"dormant_proportion": 0.1 * layer + (0.01 * task if phase == "after" else 0)})
    return pd.DataFrame(rows)


def make_online(labels=("sgd", "sassha"), num_tasks=3, bins=4) -> pd.DataFrame:
    rows = []
    for i, label in enumerate(labels):
        for task in range(num_tasks):
            for b in range(bins):
                row = {"run": label, "label": label, "task": task, "bin": b, "step": (task * bins + b + 1) * 25}
                rows.append(row | {"examples": 400, "loss": 2.0 - 0.1 * b, "accuracy": 0.2 * b + 0.05 * i})
    return pd.DataFrame(rows)


def make_spectra(labels=("sgd",), num_tasks=3) -> pd.DataFrame:
    rows = []
    for label in labels:
        for task in range(num_tasks):
            for phase in ("before", "after"):
                for index, value in enumerate((8.0, 4.0, 2.0, 2.0)):
                    row = {
                        "run": label,
                        "label": label,
                        "task": task,
                        "phase": phase,
                        "name": "ntk_spectrum",
                        "index": index,
                    }
                    rows.append(row | {"value": value * (task + 1)})
    return pd.DataFrame(rows)
