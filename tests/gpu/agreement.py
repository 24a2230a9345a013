"""Checks that a device computes what the CPU does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from cases import (
    DOUBLE,
    NAMES,
    SHAPES,
    SINGLE,
    Check,
    SmallTask,
    as_on_a_gpu,
    distance,
    make_learner,
    numbers,
    on_device,
    train,
    values,
)
from generated_data import write_data
from micro import micro_data

from lop.algos import INTERVENTIONS
from lop.experiment import make_stream
from lop.metrics import METRICS, Dashboard
from lop.nets import NETS
from lop.plan import BENCHMARKS
from lop.training.stacked import StackedPopulation

LONG = ("trainability", "hessian_eps_rank", "hessian_eps_ranks")  # with their defaults, of many steps


def _precisions() -> Iterator[tuple[torch.dtype, float]]:
    yield torch.float64, DOUBLE
    yield torch.float32, SINGLE


def _agreement(device: str, dtype: torch.dtype, **case) -> float:
    """Between a run on the device and one on the CPU."""
    found = []
    for name in (device, "cpu"):
        with on_device(name) as place, as_on_a_gpu():
            learner = make_learner(place, dtype, **case)
            shape = SHAPES[case.get("net", "mlp")]
            train(learner, lambda k, place=place, shape=shape: SmallTask(shape, k, place, dtype))
            found.append(numbers(learner))
    return distance(*found)


def optimizers(device: str) -> Iterator[Check]:
    for dtype, tolerance in _precisions():
        check = Check(f"optimizers, {dtype}", tolerance)
        for name in NAMES:
            check.add(name, lambda name=name, dtype=dtype: _agreement(device, dtype, optimizer=name))
        yield check


def interventions(device: str) -> Iterator[Check]:
    for dtype, tolerance in _precisions():
        check = Check(f"interventions, {dtype}", tolerance)
        for name in INTERVENTIONS:
            check.add(name, lambda name=name, dtype=dtype: _agreement(device, dtype, optimizer="adam", algos=[name]))
        yield check


def nets(device: str) -> Iterator[Check]:
    for dtype, tolerance in _precisions():
        check = Check(f"nets, {dtype}", tolerance)
        for net in NETS:
            for name in ("sgd", "adam", "adahessian", "sam", "kfac"):
                case = {"net": net, "optimizer": name}
                check.add(f"{net}, {name}", lambda case=case, dtype=dtype: _agreement(device, dtype, **case))
        yield check


def metrics(device: str) -> Iterator[Check]:
    """Every diagnostic. In float32 those that count (ranks at a threshold) may differ by one."""
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.float32, 5e-2)):
        measured = {}
        for name in (device, "cpu"):
            with on_device(name) as place:
                learner = make_learner(place, dtype, net="convnet", optimizer="adam")
                task = SmallTask(SHAPES["convnet"], 0, place, dtype)
                learner.start_task(task)
                extras = [{"name": name, "steps": 8} if name in LONG else name for name in METRICS]
                board = Dashboard(learner, reference_size=16, ntk_size=6, extras=extras)
                board.before(task)
                train(learner, lambda k, task=task: task, tasks=1)
                measured[name] = board.after(task)
        check = Check(f"diagnostics, {dtype}", tolerance)
        pair = list(measured.values())
        for name, metric in METRICS.items():
            counts = metric.integer and dtype == torch.float32
            check.add(name, lambda name=name, counts=counts, pair=pair: _values_apart(name, *pair, counts))
        yield check


def _values_apart(name: str, one: dict, other: dict, counts: bool) -> float:
    pairs = [
        [torch.tensor(v, dtype=torch.float64).reshape(-1) for v in (one[kind].get(name, []), other[kind].get(name, []))]
        for kind in ("layers", "spectra")
    ]
    pairs.append([torch.tensor([found.get(name, 0.0)], dtype=torch.float64) for found in (one, other)])
    if counts:
        return max(max(float((a - b).abs().max()) - 1 if len(a) else 0.0, 0.0) for a, b in pairs)
    return max(distance([a], [b]) for a, b in pairs)


def streams(device: str) -> Iterator[Check]:
    """Batches of every supervised benchmark on data that is always there or generated, and its evaluation."""
    check = Check("streams", 1e-6)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for name in (name for name, known in BENCHMARKS.items() if known.kind == "supervised"):
            given = dict(micro_data(name, Path(folder), Path(folder))["benchmark"])
            del given["name"]
            check.add(name, lambda name=name, given=given: _batches_apart(device, name, given, folder))
    yield check


def _batches_apart(device: str, name: str, options: dict, data_dir: str) -> float:
    found = []
    for place in (device, "cpu"):
        with on_device(place) as where:
            task = make_stream(name, options, 3, data_dir, where).task(1)
            pairs = [*task.batches(0), *task.evaluation("test"), task.reference(8)]
            tensors = [t for pair in pairs for t in pair]
            if any(t.device.type != where.type for t in tensors):
                raise AssertionError(f"batches are not on {where}")
            found.append([values(t) for t in tensors])
    return distance(*found)


def populations(device: str) -> Iterator[Check]:
    """A stack of three on the device, against single runs on the CPU."""
    for dtype, tolerance in _precisions():
        check = Check(f"populations, {dtype}", tolerance)
        for case in ({"optimizer": name} for name in ("sgd", "adam", "sassha", "sophiag", "adahessian")):
            check.add(case["optimizer"], lambda case=case, dtype=dtype: _stack_apart(device, dtype, **case))
        for name in ("l2_init", "cbp", "ema"):
            case = {"optimizer": "adam", "algos": [name]}
            check.add(name, lambda case=case, dtype=dtype: _stack_apart(device, dtype, **case))
        yield check


def _stack_apart(device: str, dtype: torch.dtype, **case) -> float:
    seeds, found = range(3), []
    with on_device(device) as place:
        population = StackedPopulation([make_learner(place, dtype, seed=seed, **case) for seed in seeds])
        tasks = [SmallTask(SHAPES["mlp"], 0, place, dtype, seed) for seed in seeds]
        population.start_task(tasks)
        for batches in zip(*(task.batches() for task in tasks), strict=True):
            population.learn(batches)
        found = [t for learner in population.learners for t in numbers(learner)]
    expected = []
    for seed in seeds:
        learner, task = make_learner("cpu", dtype, seed=seed, **case), SmallTask(SHAPES["mlp"], 0, "cpu", dtype, seed)
        train(learner, lambda k, task=task: task, tasks=1, epochs=1)
        expected += numbers(learner)
    return distance(found, expected)
