"""A loss in which every entry is on its own, and what it takes to reset some of them."""

import torch
from torch import nn

from lop.optimizers import get_optimizer
from lop.utils.seeding import make_generator


class Entries(nn.Module):
    """Logits (entries, 2): each entry decides between two classes of its own, for what draws labels from the net."""

    def __init__(self, params: list[nn.Parameter]):
        super().__init__()
        self.params = nn.ParameterList(params)

    def forward(self) -> torch.Tensor:
        each = torch.cat([p.flatten() for p in self.params])
        return torch.stack([each, -each], dim=1)


class Separable:
    """Every entry has its own loss, which another every step; the entries are those of a matrix and a vector."""

    def __init__(self, name: str, options: dict, start: list[torch.Tensor] | None = None, step: int = 0):
        self.name, self.options = name, options
        generator = make_generator(0, "separable")
        shapes = [(4, 6), (6,)]
        values = start or [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        self.params = [nn.Parameter(v.clone()) for v in values]
        self.step = step
        self.net = Entries(self.params)
        self.optimizer = get_optimizer(name, self.net, **options)

    def as_new(self) -> "Separable":
        """With a new optimizer, which draws what this one will draw."""
        new = Separable(self.name, self.options, [p.detach() for p in self.params], self.step)
        new.optimizer.generator.set_state(self.optimizer.generator.get_state())
        return new

    def loss(self) -> torch.Tensor:
        total = 0.0 * self.net().sum()
        for i, p in enumerate(self.params):
            generator = make_generator(self.step, "target", i)
            target, curvature = (torch.randn(p.shape, generator=generator, dtype=torch.float64) for _ in range(2))
            total = total + ((0.3 + curvature.square()) * (p - target) ** 2 / 2).sum() + 0.01 * (p**4).sum()
        return total

    def run(self, steps: int) -> list[list[torch.Tensor]]:
        path = []
        for _ in range(steps):
            self.optimizer.step(self.loss)
            self.step += 1
            path.append([p.detach().clone() for p in self.params])
        return path


MASKS = [
    (torch.arange(4) % 2 == 1).unsqueeze(1),
    torch.tensor([True, False, False, True, False, True]),
]


def reset(problem: Separable, masks=MASKS) -> None:
    for p, mask in zip(problem.params, masks, strict=True):
        problem.optimizer.reset_entries(p, mask)


def close(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    """To float64 rounding; torch holds NAdam's product of momenta and ASGD's step size in float32."""
    tolerance = 1e-5 if name in ("nadam", "asgd") else 1e-11
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance / 10)


def until_refresh(optimizer) -> int:
    """Steps to wait: a new entry, as a new parameter, gets its first curvature at the next refresh."""
    return -optimizer.steps % getattr(optimizer, "lazy_hessian", 1)
