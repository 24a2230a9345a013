"""What a user adds from outside the package: one file, named in a config, and every door knows it."""

import re
import subprocess
import sys
from pathlib import Path

import papermill
import pytest
import yaml
from plugged import REGISTRIES

import lop
from lop.cli import main
from lop.plan import BENCHMARKS
from lop.utils.errors import UserError

ROOT = Path(__file__).parents[1]

KINDS = ("optimizer", "intervention", "diagnostic", "benchmark", "data_set")
PLUGINS = [str(ROOT / "tests" / "plugins" / f"plugged_{kind}.py") for kind in KINDS]
SETTINGS = {
    "benchmark": {"name": "plugged_shift", "dataset": "plugged_lines"},
    "optimizer": {"name": "plugged_ball", "lr": 0.01},
    "algos": [{"name": "plugged_bounds", "bound": 0.05}],
    "metrics": {"extras": [{"name": "plugged_largest", "count": 2}], "reference_size": 4, "ntk_size": 4},
}


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


def test_by_the_command_line(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "run": {"plugins": PLUGINS, "results_dir": str(tmp_path / "out")}}))
    assert "finished: 2 tasks" in command("run", "-c", config, "--quiet", cwd=tmp_path)
    assert largest_weights(tmp_path / "out").tolist() == pytest.approx([0.05, 0.05])


def test_by_papermill(tmp_path):
    overrides = {
        "run.plugins": PLUGINS,
        **{f"metrics.{name}": value for name, value in SETTINGS["metrics"].items()},
        "benchmark.dataset": "plugged_lines",
    }
    parameters = {
        "benchmark": "plugged_shift",
        "optimizer": "plugged_ball",
        "algos": SETTINGS["algos"],
        "baseline": False,
        "results_dir": str(tmp_path / "out"),
        "overrides": overrides,
    }
    papermill.execute_notebook(
        ROOT / "run-expr.ipynb", tmp_path / "out.ipynb", parameters, kernel_name="python3", progress_bar=False
    )
    assert largest_weights(tmp_path / "out").tolist() == pytest.approx([0.05, 0.05])


@pytest.mark.usefixtures("forgotten")
def test_in_the_worker_and_the_kernel_of_a_sweep(tmp_path, monkeypatch, capsys):
    grid = {
        "grid": {"seed": [0]},
        "settings": {
            "benchmark": "plugged_shift",
            "benchmark.dataset": "plugged_lines",
            "optimizer": "plugged_ball",
            "algos": SETTINGS["algos"],
            "run.plugins": PLUGINS,
            **{f"metrics.{name}": value for name, value in SETTINGS["metrics"].items()},
        },
        "results_dir": str(tmp_path / "out"),
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "-c", "grid.yaml"]) == 0
    assert "1 finished" in capsys.readouterr().out
    assert largest_weights(tmp_path / "out").tolist() == pytest.approx([0.05] * 2)


@pytest.fixture
def forgotten():
    """What a test registers is taken out again."""
    yield
    for known in (*REGISTRIES, sys.modules):
        for name in [name for name in known if name.startswith("plugged_")]:
            del known[name]


@pytest.mark.usefixtures("forgotten")
def test_once_in_a_process_and_as_part_of_no_runs_name():
    config = lop.plan.resolve({**SETTINGS, "run": {"plugins": PLUGINS}})
    again = lop.plan.resolve({**SETTINGS, "run": {"plugins": PLUGINS * 2}})
    assert config.run_name() == again.run_name()
    assert BENCHMARKS["plugged_shift"].stream.__module__ == "plugged_benchmark"


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
    path = tmp_path / "plugged_mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        lop.plan.resolve({**SETTINGS, "run": {"plugins": [str(path)]}})
    assert message in str(error.value)


@pytest.mark.usefixtures("forgotten")
def test_one_that_registers_nothing_is_said_once(tmp_path, capsys):
    path = tmp_path / "plugged_nothing.py"
    path.write_text("x = 1")
    for _ in range(2):
        lop.plan.resolve({**SETTINGS, "run": {"plugins": [*PLUGINS, str(path)]}})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: run.plugins: {path} registers nothing; put a decorator")


def test_a_name_that_no_plugin_brings_is_unknown():
    with pytest.raises(UserError, match="unknown benchmark"):
        lop.plan.resolve(SETTINGS)


BROKEN = """
import lop


@lop.optimizer("plugged_careless")
class Careless(lop.ClosureOptimizer):
    def __init__(self, model_or_params, *, lr: float = 0.02, **shared):
        super().__init__(model_or_params, {"lr": lr}, **shared)

    def _apply(self, params, grads):
        for p, g in zip(params, grads):  # the limit of the gradient's norm is forgotten
            p.sub_(g, alpha=self._group_of(p)["lr"])
"""
CONTRACTS = (
    "optimizers/test_optimizer_contract.py",
    "optimizers/test_entry_contract.py",
    "algos/test_interventions_contract.py",
    "metrics/test_metric_contract.py",
    "streams/test_streams.py",
    "data/test_records.py",
)


def test_the_contract_tests_run_over_a_plugin_and_over_nothing_else(tmp_path):
    careless = tmp_path / "plugged_careless.py"
    careless.write_text(BROKEN)
    chosen = [argument for plugin in (*PLUGINS, careless) for argument in ("--plugin", str(plugin))]
    paths = [str(ROOT / "tests" / path) for path in CONTRACTS]
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *chosen, *paths]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(("PASSED", "FAILED", "ERROR"))]
    assert [line[1].rsplit("::")[-1] for line in lines if line[0] != "PASSED"] == [
        "test_clips_to_the_global_gradient_norm[plugged_careless]"
    ]
    tested = {name for line in lines for name in re.findall(r"plugged_\w+?(?=[-\]])", line[1])}
    assert tested == {
        *("plugged_ball", "plugged_careless", "plugged_bounds"),
        *("plugged_largest", "plugged_shift", "plugged_lines"),
    }
    assert all("plugged_" in line[1] for line in lines)
