"""SAM and ASAM: the sharpness-aware perturbation alone, around any optimizer."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from lop.optimizers.base import Closure
from lop.optimizers.build import get_base
from lop.optimizers.evaluation import Evaluation
from lop.optimizers.multi_tensor import spread
from lop.optimizers.options import check_values
from lop.optimizers.perturbation import perturb
from lop.optimizers.registry import optimizer
from lop.optimizers.wrapping import DelegatingOptimizer
from lop.utils.errors import UserError


@optimizer("sam")
class SAM(DelegatingOptimizer[Evaluation]):
    """The base optimizer's step, with everything it asks of the loss taken at p + e, e = rho * g / norm(g).

    base: the name of any optimizer here that evaluates the loss once per step; its state and groups are this one's.
    base_options: its hyperparameters besides lr and weight_decay; None: momentum 0.9 for sgd, else its defaults.
    lr, weight_decay: handed to the base. max_grad_norm clips the gradient at p + e.
    Foret et al. (2021), "Sharpness-aware minimization for efficiently improving generalization".
    """

    single_pass = False
    member_options: tuple[str, ...] = ("max_grad_norm", "rho")

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.01,
        rho: float = 0.05,
        base: str = "sgd",
        base_options: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        check_values({"rho": rho})
        self.rho = rho
        shared = {"max_grad_norm": max_grad_norm, "seed": seed}
        around = get_base(base, model_or_params, base_options, lr=lr, weight_decay=weight_decay, **shared)
        if not around.single_pass:
            raise UserError(f"must evaluate the loss once per step, which {base} does not", option="base")
        super().__init__(around)

    def _step(self, closure: Closure) -> Tensor:
        here = self._differentiate(closure)
        loss = here.loss
        moved = self._workspace(here.params)
        rho = self._each(lambda own: own.rho)
        assert rho is not None
        perturb(here.params, here.grads, rho, moved, scales=self._scales(here.params), stacked=self.stacked)
        with self._perturbed(here.params, moved):
            del here  # gradients as large as the parameters, and no longer needed
            there = self.base._evaluate(closure)
        self.base._finish(there)
        return loss

    def _scales(self, params: list[Tensor]) -> list[Tensor | None] | None:
        """What the perturbation of each parameter is scaled by; None: nothing."""
        return None


@optimizer("asam")
class ASAM(SAM):
    """SAM with e = rho * T^2 g / norm(T g), T = abs(w) + eta for weights and 1 for all else (biases).

    With eta 0 and no biases this does not change when layers are rescaled; eta keeps weights near 0 in the
    perturbation. Weights are the parameters whose own name contains "weight" (those of normalisations, too); where no
    net is given, those with two dimensions or more.
    Kwon et al. (2021), "ASAM: Adaptive sharpness-aware minimization for scale-invariant learning"; rho and eta as in
    their code.
    """

    member_options = ("max_grad_norm", "rho", "eta")

    def __init__(self, model_or_params: nn.Module | Iterable, *, rho: float = 0.5, eta: float = 0.01, **shared: Any):
        check_values({"eta": eta})
        self.eta = eta
        super().__init__(model_or_params, rho=rho, **shared)

    def _scales(self, params: list[Tensor]) -> list[Tensor | None]:
        weights = self._kept("weights")
        if not weights and self.model is not None:
            weights.update((p, "weight" in name.rpartition(".")[2]) for name, p in self.model.named_parameters())
        eta = self._each(lambda own: own.eta)
        assert eta is not None
        return [
            p.abs().add_(spread(eta, p) if isinstance(eta, Tensor) else eta)
            if weights.get(p, p.ndim > 1 + self.stacked)
            else None
            for p in params
        ]
