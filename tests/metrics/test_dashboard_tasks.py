"""What a dashboard measures of tasks: their examples and outputs, before and after, in one session or two."""

import dataclasses
import io
import math

import pytest
import torch
from dashboards import SHAPE, perturb
from metrics_small import FixedTask, SmallLearner

from lop.metrics import Dashboard, Reason
from lop.nets.mlp import MLP
from lop.runs import checkpoint


def test_reasons_survive_a_checkpoint(mlp, images, tmp_path):
    x, y = images.reference(20)
    before = Dashboard(mlp, reference_size=16, ntk_size=4).before(FixedTask(x, y))
    checkpoint.save(tmp_path / "c.pt", {"before": before})
    assert checkpoint.load(tmp_path / "c.pt")["before"]["reasons"] == {"test_acc": Reason.NO_TEST_SPLIT}
    assert isinstance(checkpoint.load(tmp_path / "c.pt")["before"]["reasons"]["test_acc"], Reason)


def test_churn_is_of_the_same_reference_inputs(mlp, images):
    dashboard = Dashboard(mlp, reference_size=16, ntk_size=4)
    dashboard.before(images)
    x, _ = images.reference(16)
    p = mlp.predict(x).softmax(1)
    assert dashboard.after(images)["ntk_churn"] == 0
    perturb(mlp.net)
    q = mlp.predict(x).softmax(1)
    expected = (p * (p / q).log()).sum(1).mean().item()
    assert dashboard.after(images)["ntk_churn"] == pytest.approx(expected, rel=1e-4)


def test_resumed_in_mid_task_gives_the_same_values(mlp, images):
    options = {"reference_size": 16, "ntk_size": 4, "extras": ["distance_from_init"]}
    dashboard = Dashboard(mlp, **options)
    dashboard.before(images)
    buffer = io.BytesIO()
    torch.save(dashboard.state_dict(), buffer)
    perturb(mlp.net)
    resumed = Dashboard(mlp, **options)
    assert math.isnan(resumed.after(images)["ntk_churn"])
    resumed.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    expected, found = dashboard.after(images), resumed.after(images)
    for values in (expected, found):
        del values["seconds"], values["evaluation_seconds"]
    assert found == expected
    assert found["distance_from_init"] > 0


def test_churn_against_another_task_is_refused(mlp, images):
    dashboard = Dashboard(mlp, reference_size=16, ntk_size=4)
    dashboard.before(images)
    result = dashboard.after(dataclasses.replace(images, index=1))
    assert math.isnan(result["ntk_churn"])
    assert result["reasons"]["ntk_churn"] is Reason.NOT_MEASURED_BEFORE


def test_only_active_outputs_are_measured(drawn, images):
    learner = SmallLearner(drawn(MLP(SHAPE, 6, hidden=[9]), torch.float32))
    task = dataclasses.replace(images, active=torch.arange(4))
    narrow = SmallLearner(drawn(MLP(SHAPE, 4, hidden=[9]), torch.float32))
    with torch.no_grad():
        for ours, theirs in zip(narrow.net.parameters(), learner.net.parameters(), strict=True):
            ours.copy_(theirs[: len(ours)])
        learner.net.head.bias[4:] = 100.0
    options = {
        "reference_size": 16,
        "ntk_size": 5,
        "extras": ["grad_norm", "sharpness", "grad_cov_rank", "hessian_trace"],
    }
    wide, expected = Dashboard(learner, **options).before(task), Dashboard(narrow, **options).before(images)
    for name in (
        "loss",
        "train_acc",
        "test_acc",
        "ntk_eff_rank",
        "ntk_cond",
        "grad_norm",
        "sharpness",
        "grad_cov_rank",
    ):
        assert wide[name] == pytest.approx(expected[name], rel=1e-4), name


def test_evaluation_weights_count_for_loss_and_accuracy_only(mlp, images):
    zero = SmallLearner(mlp.net)
    zero.predict = lambda x: torch.zeros(len(x), 4)
    result = Dashboard(zero, reference_size=16, ntk_size=4).before(images)
    assert result["loss"] == pytest.approx(math.log(4), rel=1e-6)
    expected = Dashboard(mlp, reference_size=16, ntk_size=4).before(images)
    assert result["ntk_eff_rank"] == expected["ntk_eff_rank"]


def test_training_examples_are_capped_and_the_test_split_is_whole(mlp, images):
    seen = []
    original = mlp.predict
    mlp.predict = lambda x: (seen.append(len(x)), original(x))[1]
    Dashboard(mlp, reference_size=16, ntk_size=4, eval_examples=7).before(images)
    assert sorted(seen) == [7, 20]


def test_no_test_split_is_a_reason(mlp, images):
    x, y = images.reference(20)
    result = Dashboard(mlp, reference_size=16, ntk_size=4).before(FixedTask(x, y))
    assert result["reasons"] == {"test_acc": Reason.NO_TEST_SPLIT}
    assert math.isnan(result["test_acc"])
