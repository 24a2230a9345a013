"""How many runs fit into memory side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from lop.config import Config
from lop.experiment import build
from lop.plan import BENCHMARKS
from lop.utils.devices import find_device
from lop.utils.memory import free_memory

SHARE = 0.5  # of what is free: the rest is for diagnostics, the images and what others ask for meanwhile


def fitting(config: Config, share: float = 1.0) -> int | None:
    """How many runs like this one fit into half of the free memory, at least 1. None: it cannot be known.

    share: of the free memory that is for them, where other processes take theirs at the same time.

    Nor is it asked for environments, whose memory is their own.
    """
    if BENCHMARKS[config.benchmark.name].kind == "control":
        return None
    free = free_memory(find_device(config.run.device))
    return None if free is None else max(1, int(free * SHARE * share) // run_bytes(config))


def run_bytes(config: Config) -> int:
    """Bytes of one run's weights, gradients, states and everything that autograd keeps in a step.

    Measured: a run is built and takes its first step. The images are not counted: runs share them.
    """
    parts = build(config)
    learner, task = parts.learner, parts.stream.task(0)
    learner.start_task(task)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = min(tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        x, y = next(iter(task.batches(0)))
        learner.learn(x, y)
    gradients = sum(p.numel() * p.element_size() for p in learner.net.parameters())
    return max(1, gradients + _bytes(learner.state_dict()) + sum(kept.values()))


def _bytes(state: object) -> int:
    """Of all tensors in nested dicts and lists."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(_bytes(part) for part in parts)
