"""Checks of how a device is used: nothing waits, nothing grows, runs go on and repeat themselves."""

from __future__ import annotations

import gc
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import torch
from cases import (
    DECIDING,
    DOUBLE,
    DRAWING,
    NAMES,
    PRETENDED,
    SHAPES,
    WAITING,
    Check,
    SmallTask,
    as_on_a_gpu,
    distance,
    make_learner,
    never_waiting,
    numbers,
    on_device,
    train,
)
from pretended import Pretended

import lop
from lop.algos import INTERVENTIONS
from lop.nets import NETS
from lop.runs import checkpoint


def waiting(device: str) -> Iterator[Check]:
    """No step makes the host wait for the device, but for those that `cases` lists with the reason."""
    check = Check("steps that never wait", 0.0)
    cases: dict[str, dict] = {name: {"optimizer": name} for name in NAMES if name not in WAITING}
    cases |= {name: {"optimizer": "adam", "algos": [name]} for name in INTERVENTIONS if name not in DECIDING}
    cases |= {f"{net}, {name}": {"net": net, "optimizer": name} for net in NETS for name in ("sgd", "sassha", "kfac")}
    for name, case in cases.items():
        check.add(name, lambda case=case: _watched(device, **case))
    yield check


def _watched(device: str, **case) -> float:
    with _own_generators(device) as place:
        learner, shape = make_learner(place, torch.float32, **case), SHAPES[case.get("net", "mlp")]
        train(learner, lambda k: SmallTask(shape, k, place, torch.float32), guard=lambda: never_waiting(device))
    return 0.0


@contextmanager
def _own_generators(device: str) -> Iterator[torch.device]:
    if device == PRETENDED:
        with on_device(device) as place:
            yield place
    else:
        yield torch.device(device)


def resume(device: str, names: Sequence[str] = NAMES) -> Iterator[Check]:
    """A learner saved on the device goes on there bit by bit, and on the CPU within rounding.

    Optimizers that draw probes are left out of the second: a GPU's generator can't go on on the CPU.
    """
    same, host = Check("resumed on the device", 0.0), Check("resumed on the CPU, float64", DOUBLE)
    for name in names:
        same.add(name, lambda name=name: _resumed_apart(device, device, optimizer=name))
        if name not in DRAWING:
            host.add(name, lambda name=name: _resumed_apart(device, "cpu", optimizer=name))
    for name in ("cbp", "ema", "snr", "ewc"):
        case = {"optimizer": "adam", "algos": [name]}
        same.add(name, lambda case=case: _resumed_apart(device, device, **case))
    yield from (same, host)


def _resumed_apart(device: str, then: str, **case) -> float:
    shape, dtype = SHAPES["mlp"], torch.float64

    def go_on(learner, place, index: int) -> None:
        train(learner, lambda k: SmallTask(shape, index, place, dtype), tasks=1)

    with on_device(device) as place, as_on_a_gpu():
        learner = make_learner(place, dtype, **case)
        go_on(learner, place, 0)
        saved = io.BytesIO()
        torch.save(_on_the_host(learner.state_dict()), saved)
        go_on(learner, place, 1)
        expected = numbers(learner)
    saved.seek(0)
    with on_device(then) as place, as_on_a_gpu():
        resumed = make_learner(place, dtype, **case)
        resumed.load_state_dict(_there(torch.load(saved, weights_only=True), place))
        go_on(resumed, place, 1)
        return distance(numbers(resumed), expected)


def _on_the_host(state):
    """As a checkpoint is written by a run: a pretended tensor cannot be."""
    if isinstance(state, dict):
        return {key: _on_the_host(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_on_the_host(value) for value in state)
    return state.detach().inner if isinstance(state, Pretended) else state


def _there(state, place: torch.device):
    if isinstance(state, dict):
        return {key: _there(value, place) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_there(value, place) for value in state)
    return state.to(place) if isinstance(state, torch.Tensor) and state.dtype != torch.uint8 else state


def runs(device: str) -> Iterator[Check]:
    """Whole runs: twice alike in deterministic mode, and one that is begun here and ended on the CPU."""
    if device == PRETENDED:  # a run finds its device by itself
        device = "cpu"
    alike, host = Check("two runs alike, deterministic mode", 0.0), Check("begun here, ended on the CPU", 0.05)
    for optimizer in ("sgd", "adam", "sassha", "kfac"):
        alike.add(optimizer, lambda optimizer=optimizer: _runs_apart(optimizer, [device], [device], True))
        host.add(optimizer, lambda optimizer=optimizer: _runs_apart(optimizer, [device, "cpu"], [device], False))
    yield from (alike, host)


def _runs_apart(optimizer: str, one: list[str], other: list[str], deterministic: bool) -> float:
    torch.use_deterministic_algorithms(deterministic)
    try:
        tables = [_tables(optimizer, devices) for devices in (one, other)]
    finally:
        torch.use_deterministic_algorithms(False)
    return distance(*tables)


def _tables(optimizer: str, devices: list[str]) -> list[torch.Tensor]:
    """Losses of every bin. devices: one after the other; all but the last are stopped half way."""
    with tempfile.TemporaryDirectory() as folder:
        for device in devices:
            overrides = {"benchmark.num_tasks": 2, "benchmark.batch_size": 50, "net.hidden": [16, 16]}
            overrides |= {"optimizer.lr": 0.01, "run.device": device, "run.results_dir": folder, "run.threads": 1}
            config = lop.make_config(benchmark="permuted_digits", optimizer=optimizer, overrides=overrides)
            with _stopped_after(40 if device != devices[-1] else None):
                result = lop.run(config, summaries=False)
        if result.status != "finished":
            raise AssertionError(f"the run was {result.status}")
        if len(devices) > 1 and checkpoint.load(result.folder / "checkpoint.pt")["position"]["total"] < 40:
            raise AssertionError("the second half did not go on from the first")
        return [torch.tensor(result.online["loss"].to_numpy())]


@contextmanager
def _stopped_after(looks: int | None) -> Iterator[None]:
    seen = [0]

    def due(request) -> bool:
        seen[0] += 1
        request.reason = "check" if seen[0] == looks else None
        return request.reason is not None

    with patch("lop.training.stopping.StopRequest.due", due):
        yield


def memory(device: str) -> Iterator[Check]:
    """Bytes on a GPU (on the CPU: tensors) after 2,000 steps are those after 200."""
    check = Check("memory flat over 2,000 steps", 0.0)
    for optimizer, algos in (("adam", ["cbp", "ema"]), ("sassha", ["l2_init"]), ("kfac", []), ("sophiag", ["redo"])):
        check.add(f"{optimizer} {algos}", lambda optimizer=optimizer, algos=algos: _grown(device, optimizer, algos))
    yield check


def _grown(device: str, optimizer: str, algos: list[str]) -> float:
    place = torch.device("cpu" if device == PRETENDED else device)
    learner = make_learner(place, torch.float32, optimizer=optimizer, algos=algos)
    task = SmallTask(SHAPES["mlp"], 0, place, torch.float32)
    learner.start_task(task)
    used = []
    for steps in (200, 1800):
        for step in range(steps):
            learner.learn(*task.batches()[step % 4])
        gc.collect()
        used.append(_in_use(place))
    return float(max(used[1] - used[0], 0))


def _in_use(place: torch.device) -> int:
    if place.type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()
    return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())
