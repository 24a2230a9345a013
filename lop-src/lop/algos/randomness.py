"""Random draws of interventions, and the state of their generators."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from lop.nets.init import fresh_parameters


def generator_state(generator: torch.Generator) -> dict:
    return {"device": generator.device.type, "state": generator.get_state()}


def restore_generator(generator: torch.Generator, saved: dict) -> None:
    """Continue where the saved one was; on another kind of device, warn and go on with other random numbers."""
    if saved["device"] == generator.device.type:
        generator.set_state(saved["state"].cpu())
    else:
        warnings.warn(
            f"an intervention's generator was saved on {saved['device']} and is loaded on {generator.device.type}: "
            "it continues with other random numbers",
            stacklevel=2,
        )


def fresh_net(net: nn.Module, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Every parameter that is trained, with new values from its initial distribution."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for module in net.modules():
        own = dict(module.named_parameters(recurse=False))
        if own:
            fresh = fresh_parameters(module, generator)
            pairs += [(p, fresh[name]) for name, p in own.items() if p.requires_grad]
    return pairs
