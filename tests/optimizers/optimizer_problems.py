"""Small problems for the optimizer tests."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lop.optimizers import get_optimizer
from lop.utils.seeding import make_generator


def fill(module: nn.Module, seed: int = 0, scale: float = 0.5) -> nn.Module:
    """Parameters from a generator of their own."""
    generator = make_generator(seed, "test parameters")
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * scale)
    return module


def small_net(name: str = "", dtype: torch.dtype = torch.float32) -> nn.Module:
    """5-8-3 tanh; without biases for Muon, which takes matrices only."""
    bias = name != "muon"
    return fill(nn.Sequential(nn.Linear(5, 8, bias=bias), nn.Tanh(), nn.Linear(8, 3, bias=bias)).to(dtype))


class Problem:
    """A small net, its optimizer, and a fixed classification batch."""

    def __init__(self, name: str, net: nn.Module | None = None, dtype: torch.dtype = torch.float32, **options):
        generator = make_generator(1, "test data")
        self.net = small_net(name, dtype) if net is None else net
        self.x = torch.randn(24, 5, generator=generator).to(dtype)
        self.y = torch.randint(0, 3, (24,), generator=generator)
        self.optimizer = get_optimizer(name, self.net, **options)

    def loss(self) -> Tensor:
        return cross_entropy(self.net(self.x), self.y)

    def run(self, steps: int) -> list[float]:
        return [self.optimizer.step(self.loss).item() for _ in range(steps)]

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.net.parameters()]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
