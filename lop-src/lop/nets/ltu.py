"""The fixed random net of linear threshold units that slowly-changing regression learns to imitate."""

import torch
from torch import Tensor, nn


class LTUNet(nn.Module):
    """One layer of linear threshold units and a linear +-1 output (Sutton & Whitehead 1993; Dohare 2024).

    All weights and biases are +-1 with equal chance. A unit with inputs x is 1 where w.x + b exceeds its threshold
    tau = beta * (m + 1) - S, m the number of inputs and S the number of its weights that are -1, else 0.
    half_bias: S also counts half the unit's bias, as the published code has it.
    Nothing is learned: all tensors are buffers, drawn from `generator` on the CPU.
    """

    def __init__(
        self, num_inputs: int, num_units: int, generator: torch.Generator, beta: float = 0.7, half_bias: bool = False
    ):
        super().__init__()

        def signs(*shape: int) -> Tensor:
            return torch.randint(2, shape, generator=generator).float().mul_(2).sub_(1)

        self.weight: Tensor
        self.bias: Tensor
        self.out_weight: Tensor
        self.out_bias: Tensor
        self.threshold: Tensor
        self.register_buffer("weight", signs(num_units, num_inputs))
        self.register_buffer("bias", signs(num_units))
        self.register_buffer("out_weight", signs(1, num_units))
        self.register_buffer("out_bias", signs(1))
        negative = (self.weight < 0).sum(1).float()
        if half_bias:
            negative += self.bias / 2
        self.register_buffer("threshold", beta * (num_inputs + 1) - negative)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(batch, num_inputs) of 0s and 1s -> targets (batch, 1)."""
        units = (nn.functional.linear(x, self.weight, self.bias) > self.threshold).float()
        return nn.functional.linear(units, self.out_weight, self.out_bias)
