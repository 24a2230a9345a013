"""Forward passes in training mode that leave no trace in BatchNorm's running statistics."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_statistics(modules: Iterable[nn.Module]) -> Iterator[None]:
    """BatchNorm in training mode normalises by its batch inside, and its running statistics stay.

    modules: all of a net's, or its BatchNorms.
    """
    norms = [m for m in modules if isinstance(m, _BatchNorm) and m.track_running_stats]
    try:
        for m in norms:
            m.track_running_stats = False
        yield
    finally:
        for m in norms:
            m.track_running_stats = True
