"""Activations by name, as modules: features are recorded at their outputs."""

import torch
from torch import Tensor, nn

from lop.utils.errors import lookup


class CReLU(nn.Module):
    """Concatenated ReLU (Shang 2016): (relu(x), relu(-x)) along dimension 1; twice as many features as units."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((torch.relu(x), torch.relu(-x)), dim=1)


ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "linear": nn.Identity,
    "crelu": CReLU,
}


def make_activation(name: str) -> nn.Module:
    return lookup(ACTIVATIONS, name, "activation")()


def expansion(name: str) -> int:
    """Features per unit."""
    return 2 if name == "crelu" else 1
