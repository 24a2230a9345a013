"""Loss and accuracy of a learner on a split of a task."""

import math

import torch
from torch import Tensor

from lop.metrics.numerics import all_finite, precise
from lop.metrics.outputs import correct, example_losses, select_outputs
from lop.nets.probing import probing


def evaluate(learner, task, split: str, limit: int | None = None) -> dict[str, float | int]:
    """{"loss": mean, "accuracy": share in 0..1, "examples": number} over a split, at most `limit` examples.

    learner: has `predict(x)` (the evaluation weights' outputs), `loss`, `net`, `optimizer`. split: "train",
    "test" or "validation". Both numbers are NaN where there is nothing to compute: an empty split, outputs that
    are not finite, and the accuracy of a regression. Leaves no trace; reads back to the host once.
    """
    examples = 0
    sums: Tensor | None = None
    with probing(learner.net, learner.optimizer), torch.no_grad():
        for x, y in task.evaluation(split, limit):
            outputs = learner.predict(x)
            losses = example_losses(outputs, y, learner.loss, task.active)
            right = torch.zeros_like(losses) if learner.loss == "mse" else correct(outputs, y, task.active)
            broken = precise(~all_finite([select_outputs(outputs, task.active)]))
            batch = torch.stack([precise(losses).sum(), precise(right).sum(), broken])
            sums = batch if sums is None else sums + batch
            examples += len(x)
    if sums is None:
        return {"loss": math.nan, "accuracy": math.nan, "examples": 0}
    loss, right, broken = sums.tolist()
    accurate = not broken and learner.loss != "mse"
    return {
        "loss": loss / examples if math.isfinite(loss) else math.nan,
        "accuracy": right / examples if accurate else math.nan,
        "examples": examples,
    }
