"""Cells of `studies/optimizers` again, by rules written anew in NumPy: no torch, nothing of this project.

    python studies/independent.py                # six methods, eight seeds, some minutes on one core

Permuted digits as the study has them: 30 tasks, each a new permutation of the 64 pixels, 2 passes of batches of 16
over 1,437 images, MLP 64-100-100-100-10 with ReLU, Kaiming-uniform weights (He 2015) and biases 0. What counts is the
accuracy of the predictions before each update: over the first and last fifth of the tasks, and over all. SGD; Adam
(Kingma & Ba 2015); K-FAC (Martens & Grosse 2015) with the empirical Fisher, a factored damping by the factors' mean
eigenvalues, running averages every 10 and inverses every 100 steps and an update of length 1 at most; spectral
diversity preservation between tasks: singular values s of each hidden weight become mean(s)^gamma s^(1 - gamma), and
Adam's moments are halved. Splits, permutations, weights and orders are other ones than the study's, drawn from
NumPy's generators. Computed in float64.
"""

import argparse
import csv
import itertools
import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SIZES, BATCH, PASSES, TASKS, WINDOW, TRAINED = (64, 100, 100, 100, 10), 16, 2, 30, 6, 1437
METHODS = ("sgd", "adam", "kfac", "sgd_sdp", "adam_sdp", "sgd_scratch")
TABLE = Path(__file__).parent / "optimizers" / "comparison.csv"


class Net:
    """Layers of float64 matrices (in + 1, out), the last row the bias; a layer's outputs are [x, 1] times it."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.draw()

    def draw(self) -> None:
        bounds = [np.sqrt((6 if i < len(SIZES) - 2 else 3) / fan_in) for i, fan_in in enumerate(SIZES[:-1])]
        pairs = zip(bounds, SIZES[:-1], SIZES[1:], strict=True)
        weights = [self.rng.uniform(-bound, bound, (fan_in, out)) for bound, fan_in, out in pairs]
        self.layers = [np.vstack([weight, np.zeros(weight.shape[1])]) for weight in weights]

    def learn(self, x: np.ndarray, y: np.ndarray):
        """Right predictions; per layer its inputs (B, in + 1), with a 1, and each sample's own gradient (B, out)."""
        ones, inputs = np.ones((len(x), 1)), []
        for i, layer in enumerate(self.layers):
            inputs.append(np.hstack([x, ones]))
            x = inputs[-1] @ layer
            if i < len(self.layers) - 1:
                x = np.maximum(x, 0)
        right = int((x.argmax(1) == y).sum())
        odds = np.exp(x - x.max(1, keepdims=True))
        signal = odds / odds.sum(1, keepdims=True)
        signal[np.arange(len(y)), y] -= 1
        signals = [signal]
        for i in range(len(self.layers) - 1, 0, -1):
            signal = (signal @ self.layers[i][:-1].T) * (inputs[i][:, :-1] > 0)
            signals.insert(0, signal)
        return right, inputs, signals


class Sgd:
    def __init__(self, lr: float):
        self.lr = lr

    def step(self, net: Net, inputs, signals) -> None:
        for layer, a, s in zip(net.layers, inputs, signals, strict=True):
            layer -= self.lr * (a.T @ s) / len(a)

    def fade(self) -> None:
        """Nothing runs."""


class Adam:
    def __init__(self, lr: float):
        self.lr, self.steps = lr, 0
        self.first, self.second = ([np.zeros((i + 1, o)) for i, o in itertools.pairwise(SIZES)] for _ in range(2))

    def step(self, net: Net, inputs, signals) -> None:
        self.steps += 1
        for layer, a, s, m, v in zip(net.layers, inputs, signals, self.first, self.second, strict=True):
            gradient = (a.T @ s) / len(a)
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient**2 - v)
            layer -= self.lr * (m / (1 - 0.9**self.steps)) / (np.sqrt(v / (1 - 0.999**self.steps)) + 1e-8)

    def fade(self) -> None:
        for moment in [*self.first, *self.second]:
            moment *= 0.5


class Kfac:
    def __init__(self, lr: float, damping: float):
        self.lr, self.damping, self.steps, self.seen, self.factors = lr, damping, 0, 0, None

    def step(self, net: Net, inputs, signals) -> None:
        if self.steps % 10 == 0:
            self.seen += 1
            new = [(a.T @ a / len(a), s.T @ s / len(s)) for a, s in zip(inputs, signals, strict=True)]
            keep = min(0.95, 1 - 1 / self.seen)
            old = self.factors or new
            self.factors = [
                (keep * p + (1 - keep) * a, keep * q + (1 - keep) * g) for (p, q), (a, g) in zip(old, new, strict=True)
            ]
        if self.steps % 100 == 0:
            self.inverses = [self._inverses(a, g) for a, g in self.factors]
        self.steps += 1
        updates = [
            left @ (a.T @ s / len(a)) @ right
            for (left, right), a, s in zip(self.inverses, inputs, signals, strict=True)
        ]
        length = np.sqrt(sum((update**2).sum() for update in updates))
        for layer, update in zip(net.layers, updates, strict=True):
            layer -= self.lr * min(1, 1 / length) * update

    def _inverses(self, a: np.ndarray, g: np.ndarray):
        pi = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g)))
        root = np.sqrt(self.damping)
        return np.linalg.inv(a + pi * root * np.eye(len(a))), np.linalg.inv(g + root / pi * np.eye(len(g)))

    def fade(self) -> None:
        self.steps = self.seen = 0
        self.factors = None


def flatten_spectrum(net: Net, gamma: float) -> None:
    for layer in net.layers[:-1]:
        u, s, v = np.linalg.svd(layer[:-1], full_matrices=False)
        s = np.maximum(s, 1e-4)
        layer[:-1] = (u * (s.mean() ** gamma * s ** (1 - gamma))) @ v


def accuracies(method: str, chosen: dict, seed: int) -> list[float]:
    """Of every task, in predictions before the update."""
    rng = np.random.default_rng((seed, METHODS.index(method)))
    images, labels = load_digits(return_X_y=True)
    rows = rng.permutation(len(images))[:TRAINED]
    images, labels = images[rows] / 16, labels[rows]
    net, lr = Net(rng), chosen["optimizer.lr"]
    kind = method.split("_")[0]
    optimizer = {"sgd": Sgd, "adam": Adam}[kind](lr) if kind != "kfac" else Kfac(lr, chosen["optimizer.damping"])
    found = []
    for task in range(TASKS):
        if task and method.endswith("sdp"):
            flatten_spectrum(net, chosen["algos.0.gamma"])
            optimizer.fade()
        if task and method.endswith("scratch"):
            net.draw()
        x, right, seen = images[:, rng.permutation(64)], 0, 0
        for _ in range(PASSES):
            for batch in np.array_split(rng.permutation(TRAINED), range(BATCH, TRAINED, BATCH)):
                correct, inputs, signals = net.learn(x[batch], labels[batch])
                optimizer.step(net, inputs, signals)
                right, seen = right + correct, seen + len(batch)
        found.append(right / seen)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    with TABLE.open(newline="") as file:
        table = {row["method"]: row for row in csv.DictReader(file) if row["benchmark"] == "permuted"}
    print("method,what,study,study_low,study_high,independent,standard_error,seeds")
    for method in options.methods:
        chosen = json.loads(table[method]["chosen"])
        runs = np.array([accuracies(method, chosen, seed) for seed in range(options.seeds)])
        early, late = runs[:, :WINDOW].mean(1), runs[:, -WINDOW:].mean(1)
        for what, values in (("mean", runs.mean(1)), ("change", late - early)):
            study = ",".join(f"{float(table[method][f'{what}{end}']):.4f}" for end in ("", "_low", "_high"))
            error = values.std(ddof=1) / np.sqrt(len(values))
            print(f"{method},{what},{study},{values.mean():.4f},{error:.4f},{len(values)}", flush=True)


if __name__ == "__main__":
    main()
