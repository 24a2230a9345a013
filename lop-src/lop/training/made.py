"""A learner for anybody's model, its parts by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from torch import Tensor, nn

from lop.algos import INTERVENTIONS, Intervention
from lop.nets import Net
from lop.nets.describe import describe
from lop.optimizers import get_optimizer
from lop.training.learner import Learner
from lop.utils.errors import UserError, lookup, near_matches


def make_learner(
    model: nn.Module,
    example: Any,
    optimizer: str,
    algos: Sequence[Intervention | str | dict[str, Any]] = (),
    *,
    loss: str | Callable[[Any, Any], Tensor] = "cross_entropy",
    seed: int = 0,
    **options: Any,
) -> Learner:
    """`lop.Learner` of a described model: `learner.learn(x, y)` is one update.

    model, example: as for `lop.describe`; a `Net` describes itself. optimizer, options: its name and hyperparameters,
    as for `lop.get_optimizer`. algos: interventions, by name, as sections with options, `{"name": "cbp",
    "replacement_rate": 1e-3}`, or built. loss: as `lop.Learner` takes it. Raises UserError for unknown names and
    options, and for what these raise.
    """
    net = model if isinstance(model, Net) else describe(model, example)
    built = get_optimizer(optimizer, net, **options)
    return Learner(net, built, [_intervention(algo) for algo in algos], loss=loss, seed=seed)


def _intervention(algo: Intervention | str | dict[str, Any]) -> Intervention:
    if isinstance(algo, Intervention):
        return algo
    options = {"name": algo} if isinstance(algo, str) else dict(algo)
    name = options.pop("name", "")
    kind = lookup(INTERVENTIONS, name, "intervention")
    known = signature(kind).parameters
    for key in options:
        if key not in known:
            raise UserError(f"is not an option of {name}: {near_matches(key, known)}", option=key)
    return kind(**options)
