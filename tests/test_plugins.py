"""What a user adds from outside the package: one file, named in a config, and every door knows it."""

import subprocess
import sys
from pathlib import Path

import papermill
import pytest
import yaml

import lop
from lop.plan import BENCHMARKS
from lop.utils.errors import UserError

ROOT = Path(__file__).parents[1]

PLUGIN = """
import torch
import lop
from lop.data.stream import Task


@lop.optimizer("plugged_sign")
class SignDescent(lop.ClosureOptimizer):
    def __init__(self, model_or_params, *, lr: float = 0.001, max_grad_norm: float | None = None, seed: int = 0):
        super().__init__(model_or_params, {"lr": lr}, max_grad_norm=max_grad_norm, seed=seed)

    def _apply(self, params, grads):
        for p, g in zip(params, grads):
            p.sub_(self._group_of(p)["lr"] * g.sign())


@lop.intervention("plugged_bounds")
class Bounds(lop.Intervention):
    def __init__(self, *, bound: float = 0.1):
        self.bound = bound

    @torch.no_grad()
    def after_step(self, features):
        for p in self.host.net.parameters():
            p.clamp_(-self.bound, self.bound)


@lop.metric("plugged_largest", "largest weight", (0, None), None, "Largest absolute parameter.")
def largest(probe):
    return torch.stack([p.detach().abs().max() for p in probe.net.parameters()]).max()


class Parity(Task):
    def batches(self, epoch, start=0):
        x = torch.linspace(-1, 1, 32).view(8, 4)
        for _ in range(start, self.steps_per_epoch):
            yield x, (x.sum(1) * (self.index + 1) > 0).long()

    def reference(self, size):
        x, y = next(self.batches(0))
        return x[:size], y[:size]

    def evaluation(self, split, limit=None):
        yield from list(self.batches(0))[:1]


@lop.benchmark("plugged_parity", family="plugged", net={"name": "mlp", "hidden": [6]})
class ParityStream(lop.TaskStream):
    input_shape, num_outputs, data_description = (4,), 2, "generated"

    def __init__(self, seed, data_dir, device, *, num_tasks: int = 2):
        self.num_tasks = num_tasks

    def task(self, k):
        return Parity(index=k, active=None, epochs=1, steps_per_epoch=20, batch_size=8)
"""
SETTINGS = {
    "benchmark": "plugged_parity",
    "optimizer": {"name": "plugged_sign", "lr": 0.01},
    "algos": [{"name": "plugged_bounds", "bound": 0.05}],
    "metrics": {"extras": ["plugged_largest"], "reference_size": 4, "ntk_size": 4},
}


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "plugged.py"
    path.write_text(PLUGIN)
    return path


def largest_weights(folder):
    return lop.load(folder).tasks["plugged_largest_after"]


def command(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, str(ROOT / "lop-src" / "main.py"), *map(str, arguments)],
        cwd=cwd,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_by_the_command_line(tmp_path, plugin):
    config = tmp_path / "mine.yaml"
    config.write_text(
        yaml.safe_dump({**SETTINGS, "run": {"plugins": [str(plugin)], "results_dir": str(tmp_path / "out")}})
    )
    assert "finished: 2 tasks" in command("run", "-c", config, "--quiet", cwd=tmp_path)
    assert largest_weights(tmp_path / "out").tolist() == pytest.approx([0.05, 0.05])


def test_by_papermill(tmp_path, plugin):
    overrides = {
        "run.plugins": [str(plugin)],
        "metrics.extras": ["plugged_largest"],
        "metrics.reference_size": 4,
        "metrics.ntk_size": 4,
    }
    parameters = {
        "benchmark": "plugged_parity",
        "optimizer": "plugged_sign",
        "algos": ["plugged_bounds"],
        "baseline": False,
        "results_dir": str(tmp_path / "out"),
        "overrides": overrides,
    }
    papermill.execute_notebook(
        ROOT / "run-expr.ipynb", tmp_path / "out.ipynb", parameters, kernel_name="python3", progress_bar=False
    )
    assert largest_weights(tmp_path / "out").tolist() == pytest.approx([0.1, 0.1])


def test_in_the_workers_of_a_sweep(tmp_path, plugin):
    grid = {
        "grid": {"seed": [0, 1]},
        "settings": {
            "benchmark": "plugged_parity",
            "optimizer": "plugged_sign",
            "algos": ["plugged_bounds"],
            "run.plugins": [str(plugin)],
            "metrics.extras": ["plugged_largest"],
            "metrics.reference_size": 4,
            "metrics.ntk_size": 4,
        },
        "results_dir": str(tmp_path / "out"),
        "parallel": 2,
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    assert "2 finished" in command("sweep", "-c", tmp_path / "grid.yaml", cwd=tmp_path)
    assert len(largest_weights(tmp_path / "out")) == 4


@pytest.fixture
def forgotten():
    """What a test registers is taken out again."""
    from lop.algos import INTERVENTIONS
    from lop.metrics import METRICS
    from lop.optimizers import OPTIMIZERS

    yield
    for registry in (BENCHMARKS, INTERVENTIONS, METRICS, OPTIMIZERS):
        for name in [name for name in registry if name.startswith("plugged")]:
            del registry[name]
    sys.modules.pop("plugged", None)


@pytest.mark.usefixtures("forgotten")
def test_once_in_a_process_and_as_part_of_no_runs_name(tmp_path, plugin):
    config = lop.plan.resolve({**SETTINGS, "run": {"plugins": [str(plugin)]}})
    again = lop.plan.resolve({**SETTINGS, "run": {"plugins": [str(plugin), str(plugin)]}})
    assert config.run_name() == again.run_name()
    assert BENCHMARKS["plugged_parity"].stream.__module__ == "plugged"


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (
            "import nothing_of_this_name",
            "cannot be imported (ModuleNotFoundError: No module named 'nothing_of_this_name')",
        ),
        ("def broken(:", "cannot be imported (SyntaxError"),
        ('import lop\n@lop.optimizer("adam")\nclass Adam: pass', "optimizer 'adam' is taken (by torch.optim"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, content, message):
    path = tmp_path / "plugged.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        lop.plan.resolve({**SETTINGS, "run": {"plugins": [str(path)]}})
    assert message in str(error.value)


def test_a_name_that_no_plugin_brings_is_unknown():
    with pytest.raises(UserError, match="unknown benchmark"):
        lop.plan.resolve(SETTINGS)
