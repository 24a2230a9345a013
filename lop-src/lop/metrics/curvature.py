"""Curvature of the loss on the reference batch, from exact Hessian-vector products; evaluation mode."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from lop.metrics.numerics import global_norm, nan_unless, precise
from lop.metrics.outputs import example_losses
from lop.metrics.ranks import effective_rank
from lop.metrics.registry import metric
from lop.utils.errors import UserError, near_matches

DENSE_BLOCK = 1024  # parameters up to which a block of the Hessian is formed
BLOCK_LANCZOS_STEPS = 128
TraceProbes = Annotated[int, Field(ge=2)]  # two are needed for a standard error


class HessianProduct:
    """v -> H v, H the Hessian of a scalar loss in the given parameters. v: flat (parameters,), their dtype."""

    def __init__(self, loss: Tensor, parameters: list[Tensor]):
        self.parameters = parameters
        self.size = sum(p.numel() for p in parameters)
        self.gradients = torch.autograd.grad(
            loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )

    def __call__(self, vector: Tensor) -> Tensor:
        parts = [
            v.view_as(p)
            for v, p in zip(vector.split([p.numel() for p in self.parameters]), self.parameters, strict=True)
        ]
        inner = sum((g * v).sum() for g, v in zip(self.gradients, parts, strict=True))
        if not inner.requires_grad:  # the loss is linear in the parameters
            return torch.zeros_like(vector)
        products = torch.autograd.grad(
            inner, self.parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([h.reshape(-1) for h in products])

    def dense(self) -> Tensor:
        """The whole matrix (parameters, parameters), float64, symmetrised."""
        like = self.parameters[0]
        rows = [self(row) for row in torch.eye(self.size, dtype=like.dtype, device=like.device)]
        matrix = precise(torch.stack(rows))
        return (matrix + matrix.T) / 2


def lanczos(product: HessianProduct, steps: int, generator: torch.Generator) -> Tensor:
    """Ritz values of a symmetric operator, ascending, float64, on the CPU; at most `steps` of them."""
    return ritz_pairs(product, steps, generator)[0]


def ritz_pairs(product: HessianProduct, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ritz values as `lanczos`, and the squared cosines of their vectors with the start, which sum to 1; float64, CPU.

    Lanczos with full reorthogonalisation from a random start. The ends of the spectrum converge first; where the
    operator has fewer distinct eigenvalues than `steps`, all of them are found.
    """
    like = product.parameters[0]
    vector = torch.randn(product.size, generator=generator, dtype=like.dtype).to(like.device)
    steps = min(steps, product.size)
    basis = vector.new_empty(steps + 1, product.size)
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    basis[0] = vector / vector.norm()
    for i in range(steps):
        image = product(basis[i])
        diagonal.append(precise(image @ basis[i]).item())
        for _ in range(2):  # twice is enough for orthogonality to rounding (Parlett 1980)
            image = image - basis[: i + 1].T @ (basis[: i + 1] @ image)
        norm = image.norm().item()
        scale = max(map(abs, diagonal + off_diagonal))
        if not norm > 10 * torch.finfo(like.dtype).eps * scale:  # an invariant subspace is complete
            break
        off_diagonal.append(norm)
        basis[i + 1] = image / norm
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    side = torch.tensor(off_diagonal[: len(diagonal) - 1], dtype=torch.float64)
    tridiagonal += torch.diag(side, 1) + torch.diag(side, -1)
    if not torch.isfinite(tridiagonal).all():
        unknown = torch.full((len(diagonal),), torch.nan, dtype=torch.float64)
        return unknown, unknown
    values, vectors = torch.linalg.eigh(tridiagonal)
    return values, vectors[0].square()


def hutchinson_trace(product: HessianProduct, probes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Trace of the Hessian and its standard error, from Rademacher probes (Hutchinson 1990). -> (), ()."""
    like = product.parameters[0]
    samples = []
    for _ in range(probes):
        signs = torch.randint(0, 2, (product.size,), generator=generator, dtype=like.dtype).to(like.device) * 2 - 1
        samples.append((precise(signs) * precise(product(signs))).sum())
    drawn = torch.stack(samples)
    return drawn.mean(), drawn.std() / probes**0.5


def hessian_effective_rank(product: HessianProduct, generator: torch.Generator) -> Tensor:
    """Effective rank (Roy & Vetterli 2007) of a block of the Hessian, from its absolute eigenvalues. -> ().

    Exact up to 1,024 parameters. Larger blocks: from 128 Lanczos values, which is exact when the block has fewer
    distinct eigenvalues and an estimate otherwise. Lewandowski 2023 counts instead the eigenvalues that make up
    99% of the sum.
    """
    if product.size <= DENSE_BLOCK:
        matrix = product.dense().cpu()
        finite = bool(torch.isfinite(matrix).all())
        values = torch.linalg.eigvalsh(matrix) if finite else torch.full((1,), torch.nan, dtype=matrix.dtype)
    else:
        values = lanczos(product, BLOCK_LANCZOS_STEPS, generator)
    return effective_rank(values.abs())


def sharpness(net, x: Tensor, y: Tensor, loss: str, rho: float, active: Tensor | None = None) -> Tensor:
    """L(p + rho g / norm(g)) - L(p), g the gradient over all parameters (the SAM gap, Foret 2021). -> ()."""
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    here = example_losses(net(x), y, loss, active).mean()
    gradients = torch.autograd.grad(here, list(named.values()), allow_unused=True, materialize_grads=True)
    norm = global_norm(gradients)
    scale = torch.where(norm > 0, rho / norm, torch.zeros_like(norm))
    with torch.no_grad():
        moved = {name: p + g * scale.to(g.dtype) for (name, p), g in zip(named.items(), gradients, strict=True)}
        there = example_losses(torch.func.functional_call(net, moved, (x,)), y, loss, active).mean()
        return nan_unless(torch.isfinite(norm), precise(there) - precise(here))


def _whole(probe) -> HessianProduct:
    return HessianProduct(probe.mean_loss(probe.net(probe.x)), probe.parameters)


@metric(
    "hessian_top_eigenvalue",
    "largest Hessian eigenvalue",
    (None, None),
    False,
    "largest eigenvalue of the Hessian of the loss on the reference batch (`steps` Lanczos steps)",
)
def _top(probe, *, steps: Annotated[int, Field(ge=1)] = 40):
    return lanczos(_whole(probe), steps, probe.generator("hessian_top_eigenvalue"))[-1]


@metric(
    "hessian_trace",
    "Hessian trace",
    (None, None),
    None,
    "trace of the Hessian of the loss on the reference batch (`probes` Hutchinson probes)",
    companions=("hessian_trace_se",),
)
def _trace(probe, *, probes: TraceProbes = 30):
    return _trace_and_error(probe, probes)[0]


@metric(
    "hessian_trace_se",
    "standard error of the Hessian trace",
    (0, None),
    None,
    "standard error of hessian_trace over its probes",
    companions=("hessian_trace",),
)
def _trace_se(probe, *, probes: TraceProbes = 30):
    return _trace_and_error(probe, probes)[1]


def _trace_and_error(probe, probes: int):
    return probe.once(
        f"hessian_trace/{probes}", lambda: hutchinson_trace(_whole(probe), probes, probe.generator("hessian_trace"))
    )


def _check_layer(net, *, layer: str | None = None) -> None:
    names = [hidden.name for hidden in net.hidden_layers()]
    if layer is not None and layer not in names:
        raise UserError(f"{near_matches(layer, names)}, got {layer!r}", option="layer", joint=": ")


@metric(
    "hessian_eff_rank",
    "Hessian effective rank",
    (0, None),
    True,
    "effective rank of one layer's block of the Hessian, the head's by default (after Lewandowski 2023)",
    check=_check_layer,
)
def _hessian_eff_rank(probe, *, layer: str | None = None):
    """layer: name of the hidden layer whose incoming parameters are the block; None: the head."""
    blocks = {hidden.name: [hidden.incoming] for hidden in probe.layers}
    modules = probe.net.output_layers() if layer is None else blocks[layer]
    block = [p for module in modules for p in module.parameters()]
    product = HessianProduct(probe.mean_loss(probe.net(probe.x)), block)
    return hessian_effective_rank(product, probe.generator("hessian_eff_rank"))


@metric(
    "sharpness",
    "sharpness (SAM gap)",
    (None, None),
    False,
    "rise of the reference loss at distance rho up the gradient (Foret 2021)",
)
def _sharpness(probe, *, rho: Annotated[float, Field(gt=0)] = 0.05):
    return sharpness(probe.net, probe.x, probe.y, probe.loss, rho, probe.active)
