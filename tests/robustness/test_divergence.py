"""NaN and inf in loss, weights or activations: recorded with task and step, and what the config says happens."""

import re

import micro
import pandas as pd
import pytest
import torch

from lop.algos import INTERVENTIONS
from lop.optimizers import list_optimizers, optimizer_options
from lop.rl.ppo import PPOLearner
from lop.runner import run
from lop.runs import load
from lop.training.learner import Learner

BAD_STEP = 3  # of all, from 0: in the first task of five


def poison(monkeypatch, learner_class=Learner, value=float("nan"), at=BAD_STEP, method="learn"):
    """The inputs of one step are not finite, so that its loss, its gradient and what the optimizer makes of it are."""
    count, learn = [0], getattr(learner_class, method)

    def poisoned(self, x, y):
        x = torch.full_like(x, value) if count[0] == at else x
        count[0] += 1
        return learn(self, x, y)

    monkeypatch.setattr(learner_class, method, poisoned)


def diverging(tmp_path, data_dir, policy, optimizer="sgd", algos=(), benchmark="permuted_digits", **overrides):
    overrides = {"run.on_divergence": policy, **{key.replace("__", "."): value for key, value in overrides.items()}}
    config = micro.micro_config(benchmark, data_dir, tmp_path, optimizer=optimizer, algos=algos, overrides=overrides)
    return run(config, summaries=False)


def divergences(result) -> pd.DataFrame:
    events = load(result.folder).events
    return events[events["what"] == "diverged"]


REFRESHED = ("lazy_hessian", "T_inv", "update_freq")  # every so many steps, what costs most is computed anew


@pytest.mark.parametrize("optimizer", list_optimizers())
def test_every_optimizer(tmp_path, data_dir, monkeypatch, optimizer):
    often = {f"optimizer__{name}": 2 for name in REFRESHED if name in optimizer_options(optimizer)}
    for policy in ("continue", "stop", "reset_network"):
        with monkeypatch.context() as patch:
            poison(patch)
            result = diverging(tmp_path, data_dir, policy, optimizer, **often)
        events = divergences(result)
        assert events["task"].iloc[0] == 0
        assert events["detail"].iloc[0] == f"step {BAD_STEP}: non-finite loss"
        if policy == "stop":
            assert result.status == "diverged"
            assert len(result.tasks) == 0
            continue
        assert result.status == "finished"
        assert result.tasks["diverged_step"].iloc[0] == BAD_STEP
        assert len(result.tasks) == 2
        if policy == "reset_network":
            state = micro.final_state(result.folder)["learner"]
            assert all(value.isfinite().all() for value in state["net"].values())
            assert result.tasks["diverged_step"].iloc[1] == -1
            assert result.tasks["loss_after"].iloc[1] < 100


@pytest.mark.parametrize("name", ["sdp", "gosc", "l2", "ewc", "network_reset"])
def test_a_linear_net(tmp_path, data_dir, name):
    """No hidden layer: what acts on hidden weights has nothing to do, or says so."""
    assert diverging(tmp_path, data_dir, "continue", "adam", [name], net__hidden=[]).status == "finished"


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_every_intervention_survives_and_starts_anew(tmp_path, data_dir, monkeypatch, name):
    benchmark = "incremental_cifar" if name in ("step_schedule", "early_stopping") else "permuted_digits"
    for policy in ("continue", "reset_network"):
        with monkeypatch.context() as patch:
            poison(patch)
            result = diverging(tmp_path, data_dir, policy, "adam", [name], benchmark)
        assert result.status == "finished"
        assert result.tasks["diverged_step"].iloc[0] == BAD_STEP
    weights = micro.final_state(result.folder)["learner"]["net"]
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("benchmark", [name for name in micro.NAMES if not name.startswith("rl_")])
def test_every_supervised_benchmark(tmp_path, data_dir, monkeypatch, benchmark):
    poison(monkeypatch, value=float("inf"))
    result = diverging(tmp_path, data_dir, "stop", benchmark=benchmark)
    assert result.status == "diverged"
    assert divergences(result)["detail"].tolist() == [f"step {BAD_STEP}: non-finite loss"]
    again = diverging(tmp_path, data_dir, "stop", benchmark=benchmark)
    assert again.status == "diverged"  # reported, not run again


@pytest.mark.skipif(not micro.CONTROL, reason="needs Gymnasium and MuJoCo")
@pytest.mark.parametrize("policy", ["continue", "stop", "reset_network"])
def test_reinforcement_learning(tmp_path, data_dir, monkeypatch, policy):
    poison(monkeypatch, PPOLearner, method="learn_minibatch")
    result = diverging(tmp_path, data_dir, policy, "adam", benchmark="rl_hopper")
    assert result.status == ("diverged" if policy == "stop" else "finished")
    detail = divergences(result)["detail"].iloc[0]
    assert re.fullmatch(r"step \d+: non-finite loss", detail)
    if policy == "reset_network":
        weights = micro.final_state(result.folder)["learner"]["net"]
        assert all(value.isfinite().all() for value in weights.values())


def test_weights_that_the_loss_does_not_see(tmp_path, data_dir, monkeypatch):
    """A masked output's weights are not in the loss, but the next gradient carries them everywhere."""
    learn = Learner.learn

    def spoil(self, x, y):
        result = learn(self, x, y)
        unused = self.mask.nonzero().flatten()
        with torch.no_grad():
            self.net.output_layer().weight[unused[-1:]] = float("inf")
        return result

    monkeypatch.setattr(Learner, "learn", spoil)
    result = diverging(tmp_path, data_dir, "stop", benchmark="incremental_cifar")
    assert result.status == "diverged"
    assert result.online["loss"].notna().all()
    assert divergences(result)["detail"].tolist() == [f"step {len(result.online) - 1}: non-finite weights"]


def test_activations_that_only_the_diagnostics_see(tmp_path, data_dir, monkeypatch):
    """A reference batch whose activations overflow, while every training step was finite."""
    from lop.data.image_task import ImageTask

    reference = ImageTask.reference

    def huge(self, size):
        x, y = reference(self, size)
        return x * 3e38, y

    monkeypatch.setattr(ImageTask, "reference", huge)
    result = diverging(tmp_path, data_dir, "continue")
    steps = result.tasks["steps"]
    assert result.tasks["diverged_step"].tolist() == (steps - 1).tolist()
    found = [detail.split("non-finite ")[1] for detail in divergences(result)["detail"]]
    assert set(found) <= {"activations", "outputs"}
    assert len(found) == 2
    assert diverging(tmp_path, data_dir, "stop").status == "diverged"


@pytest.mark.parametrize("optimizer", list_optimizers())
def test_a_step_size_that_explodes(tmp_path, data_dir, optimizer):
    """Not one poisoned step, but the real thing: whatever the optimizer makes of it, the run ends by itself."""
    lr = 100.0 if optimizer == "lbfgs" else 1e6  # which takes many steps in one: its first must be finite
    assert diverging(tmp_path, data_dir, "continue", optimizer, optimizer__lr=lr).status == "finished"
