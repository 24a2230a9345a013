"""FIRE: every weight matrix becomes the orthogonal one nearest to it, at task boundaries."""

from __future__ import annotations

import torch
from torch import Tensor

from lop.algos.base import Host, Intervention, intervention
from lop.algos.sdp import spectral_modules
from lop.nets.layer_io import WeightLayer
from lop.utils.ranges import COUNT, require

SMALLEST = 1e-30  # of a norm: a matrix of zeros stays one


@torch.no_grad()
def orthogonalised(matrices: Tensor, iterations: int) -> Tensor:
    """(..., out, in) of the same shape: singular values towards 1 by Newton-Schulz, X <- 1.5 X - 0.5 X X^T X.

    X starts at W / norm_F(W). Each iteration at most multiplies a small singular value by 1.5: one that is below
    about 1.5^-iterations of norm_F(W) is still below 1 at the end.
    """
    wide = matrices.shape[-1] > matrices.shape[-2]
    x = matrices.mT if wide else matrices  # the Gram matrix of the smaller side
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(SMALLEST)
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * x @ (x.mT @ x)
    return x.mT if wide else x


@intervention("fire")
class FIRE(Intervention):
    """At each task's end, W <- X sqrt(out / in) / (kh kw), X from W by `iterations` Newton-Schulz steps.

    Every Linear and Conv2d, the first layer and the heads included; a convolution position by position of its kernel,
    each an (out, in) matrix. Biases and normalisations stay, and so does the optimizer's state: the authors rebuild the
    optimizer at every stage, with every method they compare (list `optimizer_reset` beside it for that). In their
    transformers only query and key weights are changed; this project has none.

    Han et al. (2026), "FIRE: Frobenius-isometry reinitialization", from the authors' code.
    Cost: per boundary three matrix products per iteration and matrix, less than an SVD; nothing per step.
    """

    def __init__(self, *, iterations: int = 10):
        require(COUNT, iterations=iterations)
        self.iterations = iterations

    def attach(self, host: Host) -> None:
        super().attach(host)
        self._layers: list[WeightLayer] = [*spectral_modules(host.net), *host.net.output_layers()]

    @torch.no_grad()
    def end_task(self, task) -> None:
        for layer in self._layers:
            weight = layer.weight
            out, width = weight.shape[:2]
            kernels = weight.reshape(out, width, -1).permute(2, 0, 1)  # (positions, out, in)
            scale = (out / width) ** 0.5 / len(kernels)
            weight.copy_((orthogonalised(kernels, self.iterations) * scale).permute(1, 2, 0).reshape(weight.shape))
