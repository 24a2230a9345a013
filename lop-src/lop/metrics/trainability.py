"""Can the net still learn? The loss it reaches on random labels, on a copy."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lop.metrics.outputs import example_losses
from lop.metrics.registry import metric


def trainability(
    net: nn.Module,
    x: Tensor,
    loss: str,
    generator: torch.Generator,
    *,
    steps: int = 50,
    lr: float = 0.01,
    active: Tensor | None = None,
) -> Tensor:
    """The loss on random targets for the inputs x after `steps` full-batch steps of plain SGD. -> ().

    Targets: classes drawn uniformly from the active ones, or standard normal numbers for "mse". The steps are
    taken in training mode on copies of parameters and buffers; the net itself is not touched. Call in `probing`.
    """
    parameters = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in net.named_parameters()}
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    trained = [p for p in parameters.values() if p.requires_grad]
    with torch.no_grad():
        targets = _random_targets(net(x), loss, generator, active)

    def random_loss() -> Tensor:
        outputs = torch.func.functional_call(net, {**parameters, **buffers}, (x,))
        return example_losses(outputs, targets, loss, active).mean()

    net.train()
    try:
        for _ in range(steps):
            gradients = torch.autograd.grad(random_loss(), trained, allow_unused=True, materialize_grads=True)
            with torch.no_grad():
                torch._foreach_add_(trained, list(gradients), alpha=-lr)
        with torch.no_grad():
            return random_loss()
    finally:
        net.eval()


def _random_targets(outputs: Tensor, loss: str, generator: torch.Generator, active: Tensor | None) -> Tensor:
    if loss == "mse":
        return torch.randn(outputs.shape, generator=generator).to(outputs)
    classes = torch.arange(outputs.shape[1], device=outputs.device) if active is None else active
    drawn = torch.randint(len(classes), (len(outputs),), generator=generator)
    return classes[drawn.to(outputs.device)]


@metric(
    "trainability",
    "loss on random labels",
    (0, None),
    False,
    "loss that a copy of the net reaches on random labels for the reference inputs in a few SGD steps",
)
def _trainability(
    probe,
    *,
    steps: Annotated[int, Field(ge=1)] = 50,
    lr: Annotated[float, Field(gt=0)] = 0.01,
):
    return trainability(
        probe.net,
        probe.x,
        probe.loss,
        probe.generator("trainability"),
        steps=steps,
        lr=lr,
        active=probe.active,
    )
