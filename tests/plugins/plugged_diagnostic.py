"""A diagnostic of one's own, in one file, with an option."""

import torch

import lop


@lop.metric("plugged_largest", "largest weight", (0, None), None, "mean of the `count` largest absolute parameters")
def largest(probe, *, count: int = 1):
    sizes = torch.cat([p.detach().abs().flatten() for p in probe.net.parameters()])
    return sizes.topk(min(count, len(sizes))).values.mean()
