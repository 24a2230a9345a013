"""Small problems for the optimizer tests."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lop.optimizers import get_optimizer
from lop.optimizers.multi_tensor import random_signs
from lop.utils.seeding import make_generator

STEPS = 50
SIZES = (4, 3)  # two parameters, so that norms must run over both
DIM = sum(SIZES)


def fill(module: nn.Module, seed: int = 0, scale: float = 0.5) -> nn.Module:
    """Parameters from a generator of their own."""
    generator = make_generator(seed, "test parameters")
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * scale)
    return module


def small_net(dtype: torch.dtype = torch.float32) -> nn.Module:
    """5-8-3 tanh."""
    return fill(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype))


# Options with which every optimizer moves within a few steps: TRAC's path is scaled by 1e-8 at first.
EAGER = {"trac": {"scale": 0.5, "discounts": [0.9]}}


class Problem:
    """A small net, its optimizer, and a fixed classification batch."""

    def __init__(self, name: str, net: nn.Module | None = None, dtype: torch.dtype = torch.float32, **options):
        generator = make_generator(1, "test data")
        self.net = small_net(dtype) if net is None else net
        self.x = torch.randn(24, 5, generator=generator).to(dtype)
        self.y = torch.randint(0, 3, (24,), generator=generator)
        self.optimizer = get_optimizer(name, self.net, **(EAGER.get(name, {}) | options))

    def loss(self) -> Tensor:
        return cross_entropy(self.net(self.x), self.y)

    def run(self, steps: int) -> list[float]:
        return [self.optimizer.step(self.loss).item() for _ in range(steps)]

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.net.parameters()]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def quadratic():
    """Loss 0.5 p^T H p with a full Hessian that has a negative direction: (H, start)."""
    random = np.random.default_rng(0)
    basis, _ = np.linalg.qr(random.normal(size=(DIM, DIM)))
    return basis @ np.diag([3.0, 2.0, 1.5, 1.0, 0.5, 0.3, -0.02]) @ basis.T, random.normal(size=DIM)


def trajectory(name: str, shapes: tuple[tuple[int, ...], ...] = ((4,), (3,)), **options) -> np.ndarray:
    """The parameters, one after the other, after each of 50 steps. shapes: theirs, of 4 and 3 entries."""
    hessian, start = quadratic()
    matrix = torch.tensor(hessian)
    parts = torch.tensor(start).split(SIZES)
    params = [nn.Parameter(part.clone().view(shape)) for part, shape in zip(parts, shapes, strict=True)]
    optimizer = get_optimizer(name, params, seed=5, **options)

    def closure():
        p = torch.cat([part.flatten() for part in params])
        return 0.5 * p @ matrix @ p

    path = []
    for _ in range(STEPS):
        optimizer.step(closure)
        path.append(torch.cat([p.detach().flatten() for p in params]).numpy().copy())
    return np.array(path)


class Probes:
    """The same probes as the optimizer draws; the estimate from them is computed here."""

    def __init__(self, n_samples: int = 1):
        self.generator = make_generator(5, "probes")
        self.n_samples = n_samples
        self.like = [torch.zeros(n, dtype=torch.float64) for n in SIZES]

    def diagonal(self, hessian: np.ndarray) -> np.ndarray:
        draws = [torch.cat(random_signs(self.like, self.generator)).numpy() for _ in range(self.n_samples)]
        return np.mean([z * (hessian @ z) for z in draws], axis=0)
