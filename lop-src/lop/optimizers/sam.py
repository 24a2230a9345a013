"""SAM and ASAM: the sharpness-aware perturbation alone, around any optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lop.optimizers.base import Closure, ClosureOptimizer
from lop.optimizers.build import get_optimizer
from lop.optimizers.options import check_values
from lop.optimizers.perturbation import perturb
from lop.optimizers.registry import optimizer
from lop.utils.errors import UserError


@optimizer("sam")
class SAM(ClosureOptimizer):
    """The base optimizer's step, with everything it asks of the loss taken at p + e, e = rho * g / norm(g).

    base: the name of any optimizer here that evaluates the loss once per step; its state and groups are this one's.
    base_options: its hyperparameters besides lr and weight_decay; None: momentum 0.9 for sgd, else its defaults.
    lr, weight_decay: handed to the base. max_grad_norm clips the gradient at p + e.
    Foret et al. (2021), "Sharpness-aware minimization for efficiently improving generalization".
    """

    single_pass = False

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
        if base_options is None:
            base_options = {"momentum": 0.9} if base == "sgd" else {}
        shared = {"lr": lr, "max_grad_norm": max_grad_norm, "seed": seed}
        if weight_decay:  # some bases have none
            shared["weight_decay"] = weight_decay
        self.base = get_optimizer(base, model_or_params, **(shared | base_options))
        if not self.base.single_pass:
            raise UserError(f"must evaluate the loss once per step, which {base} does not", option="base")
        super().__init__(self.base.param_groups, {}, seed=seed)
        self.model = self.base.model
        self._share()

    def _share(self) -> None:
        """Groups, state and probes are those of the base: schedulers and interventions see one object."""
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults
        self.generator = self.base.generator

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if len(self.__dict__.get("param_groups", ())) < len(self.base.param_groups):
            torch.optim.Optimizer.add_param_group(self, param_group)
        else:
            self.base.add_param_group(param_group)

    def _step(self, closure: Closure) -> Tensor:
        loss, params, grads = self._differentiate(closure)
        moved = self._workspace(params)
        perturb(params, grads, self.rho, moved, scales=self._scales(params))
        with self._perturbed(params, moved):
            del grads  # as large as the parameters, and no longer needed
            _, params, grads = self.base._evaluate(closure)
        self.base._apply(params, grads)
        self.base.steps += 1
        return loss

    def forget(self) -> None:
        super().forget()
        self.base.forget()

    def _scales(self, params: list[Tensor]) -> list[Tensor | None] | None:
        """What the perturbation of each parameter is scaled by; None: nothing."""
        return None

    def reset_entries(self, param: Tensor, mask: Tensor) -> None:
        self.base.reset_entries(param, mask)

    def fade(self, factor: float) -> None:
        self.base.fade(factor)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
        self.steps = self.base.steps
        self._share()


@optimizer("asam")
class ASAM(SAM):
    """SAM with e = rho * T^2 g / norm(T g), T = abs(w) + eta for weights and 1 for all else (biases).

    With eta 0 and no biases this does not change when layers are rescaled; eta keeps weights near 0 in the
    perturbation. Weights are the parameters whose own name contains "weight" (those of normalisations, too); where no
    net is given, those with two dimensions or more.
    Kwon et al. (2021), "ASAM: Adaptive sharpness-aware minimization for scale-invariant learning"; rho and eta as in
    their code.
    """

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        *,
        lr: float = 0.01,
        rho: float = 0.5,
        eta: float = 0.01,
        base: str = "sgd",
        base_options: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        check_values({"eta": eta})
        self.eta = eta
        super().__init__(
            model_or_params,
            lr=lr,
            rho=rho,
            base=base,
            base_options=base_options,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            seed=seed,
        )

    def _scales(self, params: list[Tensor]) -> list[Tensor | None]:
        weights = self._kept("weights")
        if not weights and self.model is not None:
            weights.update((p, "weight" in name.rpartition(".")[2]) for name, p in self.model.named_parameters())
        return [p.abs().add_(self.eta) if weights.get(p, p.ndim > 1) else None for p in params]
