"""The optimizer that the README adds in a dozen lines obeys the contract."""

import copy
from typing import ClassVar

import pytest
import torch
from optimizer_problems import Problem, same

from lop import optimizers
from lop.optimizers.base import ClosureOptimizer
from lop.utils.state import Fade, PerEntry, State


class Lion(ClosureOptimizer):
    param_state: ClassVar[State] = {"exp_avg": PerEntry(fade=Fade.SCALES)}

    def __init__(
        self,
        model_or_params,
        *,
        lr: float = 1e-4,
        betas: list[float] = (0.9, 0.99),
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        super().__init__(model_or_params, {"lr": lr, "betas": betas}, max_grad_norm=max_grad_norm, seed=seed)

    def _apply(self, params, grads):
        for p, g in zip(params, self._clipped(params, grads), strict=True):
            group, state = self._group_of(p), self.state[p]
            m = state.setdefault("exp_avg", torch.zeros_like(p))
            p.sub_(group["lr"] * (m.lerp(g, 1 - group["betas"][0])).sign())
            m.lerp_(g, 1 - group["betas"][1])


@pytest.fixture
def _listed(monkeypatch):
    monkeypatch.setitem(optimizers.OPTIMIZERS, "lion", Lion)


@pytest.mark.usefixtures("_listed")
def test_by_its_name_it_trains_saves_resets_and_fades():
    assert "lion" in optimizers.list_optimizers()
    assert set(optimizers.optimizer_options("lion")) == {"lr", "betas", "max_grad_norm", "seed"}
    problem = Problem("lion", lr=1e-2, max_grad_norm=1.0)
    losses = problem.run(20)
    assert losses[-1] < losses[0]
    twin = copy.deepcopy(problem)
    assert twin.run(5) == problem.run(5)
    assert same(twin.values(), problem.values())
    weight = problem.net[0].weight
    problem.optimizer.reset_entries(weight, torch.arange(8).unsqueeze(1) == 2)
    moment = problem.optimizer.state[weight]["exp_avg"]
    assert not moment[2].any()
    before = moment.clone()
    problem.optimizer.fade(0.5)
    assert torch.equal(moment, before / 2)


@pytest.mark.usefixtures("_listed")
def test_sam_goes_around_it():
    problem = Problem("sam", base="lion", lr=1e-2)
    losses = problem.run(20)
    assert losses[-1] < losses[0]
