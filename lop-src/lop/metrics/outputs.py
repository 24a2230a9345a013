"""What the outputs say: loss, correct predictions, churn. Logits are masked to a task's active outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lop.metrics.numerics import precise
from lop.metrics.reasons import Reason, UndefinedMetricError
from lop.metrics.registry import metric


def select_outputs(outputs: Tensor, active: Tensor | None) -> Tensor:
    """The columns in use. outputs: (batch, outputs); active: int64 indices, or None for all."""
    return outputs if active is None else outputs.index_select(1, active)


def local_labels(labels: Tensor, active: Tensor | None, num_outputs: int) -> Tensor:
    """Global class indices as positions in `active`; labels that are not active become -1. (batch,) -> (batch,)."""
    if active is None:
        return labels
    positions = torch.full((num_outputs,), -1, dtype=torch.int64, device=labels.device)
    positions[active] = torch.arange(len(active), device=labels.device)
    return positions[labels]


def example_losses(outputs: Tensor, targets: Tensor, loss: str, active: Tensor | None = None) -> Tensor:
    """The loss of each example, (batch,).

    "cross_entropy": over the active outputs, targets are global class indices; "mse": mean over the outputs of
    the squared difference.
    """
    chosen = select_outputs(outputs, active)
    if loss == "mse":
        return (chosen - select_outputs(targets, active)).square().mean(dim=1)
    return F.cross_entropy(chosen, local_labels(targets, active, outputs.shape[1]), reduction="none")


def correct(outputs: Tensor, labels: Tensor, active: Tensor | None = None) -> Tensor:
    """Whether the largest active output is the label's. -> bool (batch,)."""
    guess = select_outputs(outputs, active).argmax(dim=1)
    return guess == local_labels(labels, active, outputs.shape[1])


def churn(before: Tensor, after: Tensor, loss: str, active: Tensor | None = None) -> Tensor:
    """How far the outputs on the same inputs moved (C-CHAIN, Tang 2025). Two (batch, outputs) -> ().

    Classification: mean over examples of KL(p_before, p_after) over the active outputs; regression and RL: mean
    squared difference.
    """
    before, after = precise(select_outputs(before, active)), precise(select_outputs(after, active))
    if loss == "mse":
        return (after - before).square().mean()
    log_p, log_q = before.log_softmax(1), after.log_softmax(1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


@metric("loss", "training loss", (0, None), False, "mean loss of the task's training examples, evaluation weights")
def _loss(probe):
    return _evaluated(probe, "train")["loss"]


@metric("train_acc", "training accuracy", (0, 1), True, "accuracy on the task's training examples, evaluation weights")
def _train_acc(probe):
    return _accuracy(probe, "train")


@metric("test_acc", "test accuracy", (0, 1), True, "accuracy on the task's test split, evaluation weights")
def _test_acc(probe):
    return _accuracy(probe, "test")


def _accuracy(probe, split: str):
    if probe.loss == "mse":
        raise UndefinedMetricError(Reason.NO_ACCURACY)
    return _evaluated(probe, split)["accuracy"]


def _evaluated(probe, split: str) -> dict:
    result = probe.evaluation(split)
    if result["examples"] == 0:
        raise UndefinedMetricError(Reason.NO_TEST_SPLIT if split == "test" else Reason.NO_TRAIN_SPLIT)
    return result


@metric(
    "ntk_churn",
    "churn",
    (0, None),
    None,
    "change of the outputs on the task's reference inputs while training on it (C-CHAIN, Tang 2025)",
    after_only=True,
)
def _churn(probe):
    if probe.earlier_outputs is None:
        raise UndefinedMetricError(Reason.NOT_MEASURED_BEFORE)
    earlier = probe.earlier_outputs.to(probe.outputs.device)  # a checkpoint may have been read onto the host
    return churn(earlier, probe.outputs, probe.loss, probe.active)
