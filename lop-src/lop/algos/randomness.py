"""Random draws of interventions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lop.nets.init import fresh_parameters


def fresh_net(net: nn.Module, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Every parameter that is trained, with new values from its initial distribution."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for module in net.modules():
        own = dict(module.named_parameters(recurse=False))
        if own:
            fresh = fresh_parameters(module, generator)
            pairs += [(p, fresh[name]) for name, p in own.items() if p.requires_grad]
    return pairs
