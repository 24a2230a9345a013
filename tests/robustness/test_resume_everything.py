"""Stopped at random steps and taken up again: every benchmark, optimizer and intervention gives the same bits."""

import random
import re

import micro
import plugged
import pytest

from lop.algos import INTERVENTIONS
from lop.optimizers import list_optimizers
from lop.runner import run

# so that there is something to do within a few steps
EAGER = {
    "cbp": {"replacement_rate": 0.2, "maturity_threshold": 2},
    "redo": {"period": 2, "threshold": 0.5},
    "snr": {},
    "sdp": {"interval": 2},
    "gosc": {"interval": 2},
} | plugged.options


class Looks:
    """Counts the looks that a run takes at `StopRequest.due`, and stops it at the chosen ones."""

    def __init__(self, monkeypatch):
        self.count, self.stops = 0, set()
        monkeypatch.setattr("lop.training.stopping.StopRequest.due", lambda request: self._due(request))

    def _due(self, request) -> bool:
        self.count += 1
        request.reason = "test" if self.count in self.stops else None
        return request.reason is not None


def check(tmp_path, data_dir, monkeypatch, benchmark, optimizer="sgd", algos=(), overrides=None):
    looks, seed = Looks(monkeypatch), random.Random(f"{benchmark}/{optimizer}/{algos}")

    def config(folder):
        return micro.micro_config(
            benchmark, data_dir, tmp_path / folder, optimizer=optimizer, algos=algos, overrides=overrides
        )

    whole = run(config("whole"), summaries=False)
    assert whole.status == "finished"
    # the last look is at the end of the run, with nothing left to stop
    steps = range(1, looks.count)
    looks.count, looks.stops = 0, set(seed.sample(steps, min(2, len(steps))))
    expected, interruptions = len(looks.stops), 0
    while (parts := run(config("parts"), summaries=False)).status != "finished":
        assert parts.status == "interrupted"
        interruptions += 1
    assert interruptions == expected
    assert micro.differences(whole.folder, parts.folder) == []


@pytest.mark.parametrize("optimizer", list_optimizers())
def test_every_optimizer(tmp_path, data_dir, monkeypatch, optimizer):
    check(tmp_path, data_dir, monkeypatch, "permuted_digits", optimizer)


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_every_intervention(tmp_path, data_dir, monkeypatch, name):
    benchmark = "incremental_cifar" if name in ("step_schedule", "early_stopping") else "permuted_digits"
    check(tmp_path, data_dir, monkeypatch, benchmark, "adam", [{"name": name, **EAGER.get(name, {})}])


@pytest.mark.parametrize("benchmark", micro.NAMES)
def test_every_benchmark(tmp_path, data_dir, monkeypatch, benchmark):
    check(tmp_path, data_dir, monkeypatch, benchmark, "sassha", [{"name": "cbp", **EAGER["cbp"]}, "ema"])


def test_with_every_diagnostic(tmp_path, data_dir, monkeypatch):
    from lop.metrics.registry import METRICS

    overrides = {"metrics.extras": list(METRICS), "run.keep_weights": True}
    check(tmp_path, data_dir, monkeypatch, "permuted_digits", overrides=overrides)


def test_a_net_that_is_reset_after_diverging(tmp_path, data_dir, monkeypatch):
    overrides = {"optimizer.lr": 1e6, "run.on_divergence": "reset_network"}
    check(tmp_path, data_dir, monkeypatch, "permuted_digits", "sgd", ["l2_init"], overrides=overrides)
    events = next(tmp_path.glob("whole/permuted*/events.csv")).read_text()
    assert re.search(r"diverged,step \d+: non-finite loss", events)
