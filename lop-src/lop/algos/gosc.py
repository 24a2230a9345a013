"""Gradient-orthogonal spectral compression: SDP that spares the directions the gradient uses."""

from __future__ import annotations

import torch
from torch import Tensor

from lop.algos.base import intervention
from lop.algos.sdp import Exponent, SpectralIntervention
from lop.nets.probing import probing
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, SHARE, require


def alignment(gradient: Tensor, u: Tensor, vh: Tensor, rank: int) -> Tensor:
    """a_i = (norm(Ug^T u_i)^2 + norm(Vg^T v_i)^2) / 2 in [0, 1], one per singular vector pair of a weight, (k,).

    gradient: (out, ...), whose `rank` leading singular vectors are Ug, Vg. u: (out, k), vh: (k, rest), of the weight.
    """
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # a diverged net has no direction to spare
    ug, _, vgh = torch.linalg.svd(gradient.flatten(1).to(u.dtype), full_matrices=False)
    left = (ug[:, :rank].T @ u).square().sum(0)
    right = (vgh[:rank] @ vh.T).square().sum(0)
    return (left + right) / 2


@intervention("gosc")
class GOSC(SpectralIntervention):
    """SDP with gamma_i = gamma_max (1 - a_i) + gamma_min a_i for singular value i, a_i its alignment with the gradient.

    The gradient is that of the loss on `samples` training examples of the task (in reinforcement learning, on the
    last minibatch), in evaluation mode. rank: how many of its leading singular vectors count.
    """

    def __init__(
        self,
        *,
        gamma_min: float = 0.05,
        gamma_max: float = 0.5,
        rank: int = 5,
        samples: int = 512,
        interval: int | None = None,
        fade: float = 0.5,
    ):
        require(SHARE, gamma_min=gamma_min, gamma_max=gamma_max)
        if gamma_min > gamma_max:
            raise UserError(f"must be <= gamma_max = {gamma_max}, got {gamma_min}", option="gamma_min")
        require(COUNT, rank=rank, samples=samples)
        super().__init__(interval=interval, fade=fade)
        self.gamma_min, self.gamma_max, self.rank, self.samples = gamma_min, gamma_max, rank, samples

    def exponents(self) -> list[Exponent]:
        return [self._exponent(gradient) for gradient in self._gradients()]

    def _exponent(self, gradient: Tensor) -> Exponent:
        def gamma(u: Tensor, vh: Tensor) -> Tensor:
            a = alignment(gradient, u, vh, self.rank)
            return self.gamma_max * (1 - a) + self.gamma_min * a

        return gamma

    def _gradients(self) -> list[Tensor]:
        if not self._modules:  # a linear net
            return []
        host = self.host
        x, y = host.labelled_batch(self.samples)
        with probing(host.net, host.optimizer), torch.enable_grad():
            loss = host.loss_of(host.net(x), y)
            return list(torch.autograd.grad(loss, [module.weight for module in self._modules]))
