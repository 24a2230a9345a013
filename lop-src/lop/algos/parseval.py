"""Parseval regularisation: the rows of every weight matrix stay orthogonal and of one length."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lop.algos.base import Host, Intervention, intervention
from lop.algos.sdp import spectral_modules
from lop.nets.layer_io import WeightLayer
from lop.utils.ranges import AMOUNT, POSITIVE, require

TUNED_WIDTH = 64  # the one that the authors chose their strength at


@intervention("parseval")
class Parseval(Intervention):
    """weight * sum over layers of (64 / rows)^2 * norm_F(W W^T - scale I)^2, W as a matrix (out, rest).

    The layers are those of the hidden units, the first one included (in reinforcement learning the policy's and the
    value's), and a residual net's shortcuts; biases never. scale: 2 is that of orthogonal initial weights before a
    ReLU. width_factor: False leaves out (64 / rows)^2, with which a strength serves every width. head: the output
    layers, too. norms: also weight * sum (g^2 - scale)^2 over the normalisations' scales g. The penalty cannot reach 0
    where a layer has more rows than columns.

    Chung et al. (2024), "Parseval regularization for continual reinforcement learning": scale 2, weight 1e-3 (1e-4),
    tanh nets of one width, which is the factor's; here it is each layer's own. What FIRE (2026) compares with by this
    name is scale 1, no width_factor, head and norms, weight 1e-3 to 1e-5.
    Cost: two products of each matrix' size with its rows: grows with width^3, whatever the batch.
    """

    def __init__(
        self,
        *,
        weight: float = 1e-3,
        scale: float = 2.0,
        width_factor: bool = True,
        head: bool = False,
        norms: bool = False,
    ):
        require(AMOUNT, weight=weight)
        require(POSITIVE, scale=scale)
        self.weight, self.scale, self.width_factor = weight, scale, width_factor
        self.head, self.norms = head, norms

    def attach(self, host: Host) -> None:
        super().attach(host)
        net = host.net
        self._layers: list[WeightLayer] = [*spectral_modules(net), *(net.output_layers() if self.head else [])]
        self._scales = norm_scales(net) if self.norms else []

    def penalty(self) -> Tensor | None:
        terms = [self._distance(layer.weight.flatten(1)) for layer in self._layers]
        terms += [(g.square() - self.scale).square().sum() for g in self._scales]
        return self.weight * torch.stack(terms).sum() if terms else None

    def _distance(self, weight: Tensor) -> Tensor:
        return self._excess(weight).square().sum() * self._factor(weight)

    def _excess(self, weight: Tensor) -> Tensor:
        """W W^T - scale I."""
        gram = weight @ weight.T
        return gram - self.scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    def _factor(self, weight: Tensor) -> float:
        return (TUNED_WIDTH / len(weight)) ** 2 if self.width_factor else 1.0

    @torch.no_grad()
    def add_penalty_gradient(self, gradients: Mapping[Tensor, Tensor]) -> None:
        for layer in self._layers:
            weight = layer.weight.flatten(1)
            add_product(gradients[layer.weight], self._excess(weight), weight, 4 * self.weight * self._factor(weight))
        for g in self._scales:
            gradients[g].addcmul_(g, g.square() - self.scale, value=4 * self.weight)


def add_product(target: Tensor, left: Tensor, right: Tensor, factor: float = 1.0) -> None:
    """target += factor * left @ right, in place; target: of a layer's weight, (out, ...) for a product (out, rest)."""
    if target.is_contiguous():
        target.view(len(target), -1).addmm_(left, right, alpha=factor)
    else:
        target.add_((left @ right).view_as(target), alpha=factor)


def norm_scales(net: nn.Module) -> list[Tensor]:
    """The trained scales of a net's normalisation layers."""
    kinds = nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm
    return [m.weight for m in net.modules() if isinstance(m, kinds) and m.weight is not None]
