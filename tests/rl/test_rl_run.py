# ruff: noqa: E402
"""Reinforcement learning runs: tables, the command lines, and resuming bit-identically after kills."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from lop.nets import ActorCritic
from lop.notebook import film
from lop.plan import make_config, resolve
from lop.runner import run
from lop.runs import checkpoint
from lop.utils.errors import UserError

SOURCE = Path(__file__).parents[2] / "lop-src"
FOLDERS = ("ant", "hopper", "sant", "walker")
CONFIGS = [path for folder in FOLDERS for path in sorted((SOURCE / "lop" / "rl" / "cfg" / folder).glob("*.yml"))]
TABLES = ("tasks", "layers", "online", "events")
SMALL = {
    "benchmark.task_steps": 200,
    "benchmark.num_tasks": 3,
    "benchmark.rollout_steps": 64,
    "benchmark.minibatches": 2,
    "benchmark.epochs": 2,
    "benchmark.time_limit": 30,
    "net.hidden": [8, 8],
    "metrics.reference_size": 16,
    "metrics.ntk_size": 8,
    "run.device": "cpu",
}


def small_config(tmp_path, **more):
    more = {**SMALL, "run.results_dir": str(tmp_path), **more}
    benchmark, optimizer = more.pop("benchmark", "rl_hopper"), more.pop("optimizer", "adam")
    return make_config(benchmark=benchmark, optimizer=optimizer, algos=more.pop("algos", None), overrides=more)


def read_tables(folder):
    return {name: (folder / f"{name}.csv").read_bytes() for name in TABLES if (folder / f"{name}.csv").exists()}


def weights(folder):
    return checkpoint.load(folder / "checkpoint.pt")["learner"]["net"]


def assert_same_results(one, other):
    assert read_tables(one) == read_tables(other)
    a, b = weights(one), weights(other)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_tables_of_a_run(tmp_path, capsys):
    result = run(small_config(tmp_path))
    assert result.status == "finished"
    assert result.tasks["steps"].tolist() == [256, 448, 640]
    assert result.online["step"].tolist() == [64 * i for i in range(1, 11)]
    # the task's mean return is that of its episodes, however they fall into bins
    binned = result.online.assign(total=result.online["return"] * result.online["episodes"]).groupby("task")
    expected = binned["total"].sum() / binned["episodes"].sum()
    assert result.tasks["online_return"].tolist() == pytest.approx(expected.tolist())
    assert (result.tasks["episodes"] > 0).all()
    assert result.tasks["online_length"].between(1, 30).all()
    assert (result.tasks["policy_kl"] > 0).all()
    assert (result.tasks["weight_change"] > 0).all()
    assert result.tasks["avg_weight_mag_before"][1] == result.tasks["avg_weight_mag_after"][0]
    assert len(result.layers) == 3 * 2 * 4
    printed = capsys.readouterr().out
    assert printed.count("Summary") == 3
    assert "return: " in printed


def test_nothing_moves_without_a_step_size(tmp_path):
    result = run(small_config(tmp_path, optimizer="sgd", **{"optimizer.lr": 1e-30}), summaries=False)
    assert result.tasks["policy_kl"].abs().max() < 1e-9
    assert result.tasks["weight_change"].max() < 1e-25
    assert result.tasks["ntk_churn_after"].max() < 1e-12


def test_diagnostics_do_not_change_training(tmp_path):
    folders = [
        run(small_config(tmp_path, optimizer="sassha", **{"run.diagnostics": on}), summaries=False).folder
        for on in (True, False)
    ]
    a, b = map(weights, folders)
    assert all(torch.equal(a[name], b[name]) for name in a)


CBP = {"name": "cbp", "replacement_rate": 0.05, "maturity_threshold": 3}


OPTIONS = {
    "net.init": "orthogonal",
    "benchmark.standardise_over": "minibatch",
    "benchmark.value_clip": 0.2,
    "benchmark.target_kl": 1e-4,
    "benchmark.clip_actions": False,
    "benchmark.time_limit_is_terminal": True,
}


@pytest.mark.parametrize(
    ("benchmark", "optimizer", "algos", "options"),
    [
        ("rl_slippery_ant", "sassha", ["sdp", CBP], {}),
        ("rl_hopper", "adahessian", ["ema"], {}),
        ("rl_hopper", "adam", [CBP], OPTIONS),
    ],
)
def test_stopping_at_any_update_changes_nothing(tmp_path, monkeypatch, benchmark, optimizer, algos, options):
    settings = {"benchmark": benchmark, "optimizer": optimizer, "algos": algos, **options}
    settings["optimizer.lr"] = 0.001
    if benchmark == "rl_slippery_ant":
        settings["benchmark.friction_every"] = 100
    whole = run(small_config(tmp_path / "whole", **settings), summaries=False)
    looks = {"n": 0}

    def stop_every_second_look(self):
        looks["n"] += 1
        self.reason = "test" if looks["n"] % 2 == 0 else None
        return self.reason is not None

    monkeypatch.setattr("lop.training.stopping.StopRequest.due", stop_every_second_look)
    config, interruptions = small_config(tmp_path / "parts", **settings), 0
    while (parts := run(config, summaries=False)).status != "finished":
        assert parts.status == "interrupted"
        interruptions += 1
    assert interruptions >= 4
    if benchmark == "rl_slippery_ant":
        assert parts.tasks["friction"].nunique() == 3
    assert_same_results(whole.folder, parts.folder)


LONGER = {"benchmark": "rl_ant", "benchmark.num_tasks": 6, "benchmark.task_steps": 500, "run.checkpoint_every": 100}


def start(folder):
    command = [sys.executable, str(SOURCE / "main.py"), "rl", "--benchmark", "rl_ant", "--optimizer", "adam", "--quiet"]
    settings = {**SMALL, **LONGER, "run.threads": 1, "run.results_dir": folder}
    del settings["benchmark"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_rows(folder, rows, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        files = list(Path(folder).glob("*/online.csv"))
        if files and files[0].read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.005)
    raise AssertionError(f"the run made no progress: {process.communicate()[0] if process.poll() is not None else ''}")


def test_sigkill_loses_nothing(tmp_path):
    whole = run(small_config(tmp_path / "whole", **LONGER), summaries=False)
    for rows in (4, 25):
        process = start(tmp_path / "killed")
        wait_for_rows(tmp_path / "killed", rows, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    last = run(small_config(tmp_path / "killed", **LONGER), summaries=False)
    assert last.resumed
    assert_same_results(whole.folder, last.folder)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_is_valid_and_runs_in_a_small_form(path, tmp_path):
    overrides = {**SMALL, "run.results_dir": str(tmp_path), "benchmark.num_tasks": 1, "benchmark.task_steps": 64}
    overrides |= {"run.diagnostics": False}  # what they measure does not depend on the config
    config = make_config(path, overrides=overrides)
    assert config.benchmark.name == f"rl_{path.parent.name.replace('sant', 'slippery_ant')}"
    result = run(config, summaries=False)
    assert result.status == "finished"
    assert result.tasks["diverged_step"].tolist() == [-1]
    assert all(p.isfinite().all() for p in weights(result.folder).values())


def published_command(monkeypatch, *arguments: str) -> int:
    """The status with which the script ends."""
    script = str(SOURCE / "lop/rl/run_ppo_2nd.py")
    monkeypatch.setattr("sys.argv", [script, *arguments])
    monkeypatch.setattr("sys.path", [str(Path(script).parent), *sys.path])  # as Python does it for a script
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    return end.value.code


def test_the_published_names_command(tmp_path, monkeypatch, capsys):
    arguments = ["-c", str(CONFIGS[0]), "-s", "4"]
    for key, value in {**SMALL, "benchmark.num_tasks": 1, "run.results_dir": tmp_path}.items():
        arguments += ["--set", f"{key}={value}"]
    assert published_command(monkeypatch, *arguments) == 0
    assert "Task 0 Summary" in capsys.readouterr().out
    (folder,) = tmp_path.glob("rl_ant*-s4-*")
    assert (folder / "tasks.csv").exists()


def test_the_published_names_command_is_a_door_to_main(monkeypatch, capsys):
    assert published_command(monkeypatch, "-c", "nowhere.yml") == 2
    message = "error: config nowhere.yml: No such file or directory; give the path of a .json, .yaml or .yml file\n"
    assert capsys.readouterr().err == message


def test_a_film_shows_the_checkpoints_policy(tmp_path, monkeypatch):
    folder = run(small_config(tmp_path, **{"benchmark.num_tasks": 1}), summaries=False).folder
    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", lambda env: np.full((4, 6, 3), 7, dtype=np.uint8))
    shown = film.film(folder, seconds=2.0)
    assert len(shown.frames) == -(-shown.steps // 6)  # Hopper: 125 steps per second, about 20 frames
    net = ActorCritic((11,), 3, hidden=[8, 8])
    net.load_state_dict(weights(folder))
    env, total = gymnasium.make("Hopper-v5"), 0.0
    observation, _ = env.reset(seed=0)
    for _ in range(shown.steps):
        with torch.no_grad():
            action = net.policy(torch.as_tensor(observation[None]).float())[0].clamp(-1, 1)
        observation, reward, terminated, _, _ = env.step(action.numpy())
        total += reward
    assert terminated
    assert shown.total == pytest.approx(total, rel=1e-6)
    assert shown.gif().startswith(b"GIF89a")


def test_a_film_of_a_slippery_world_chosen_by_name_has_the_runs_friction(tmp_path, monkeypatch):
    changes = {"benchmark.env": "lop/SlipperyHopper-v5", "benchmark.num_tasks": 1}
    result = run(small_config(tmp_path, **changes), summaries=False)
    seen = []

    def look(env):
        seen.append(float(env.model.geom_friction[0, 0]))
        return np.zeros((4, 6, 3), dtype=np.uint8)

    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", look)
    film.film(result.folder, seconds=0.2)
    assert set(seen) == {result.tasks["friction"][0]} != {1.0}


def test_without_a_renderer_a_film_says_so(tmp_path, monkeypatch):
    def broken(env):
        raise AttributeError("no OpenGL here")

    folder = run(small_config(tmp_path, **{"benchmark.num_tasks": 1}), summaries=False).folder
    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", broken)
    with pytest.raises(UserError, match=r"nothing here can render \(no OpenGL here\); set MUJOCO_GL"):
        film.film(folder)
    with pytest.raises(UserError, match="no checkpoint here"):
        film.film(tmp_path)


def test_a_diverged_policy_is_recorded_and_the_run_goes_on(tmp_path):
    result = run(small_config(tmp_path, optimizer="sgd", **{"optimizer.lr": 1e6}), summaries=False)
    assert result.status == "finished"
    assert result.tasks["diverged_step"][0] > 0
    assert result.tasks["online_return"].notna().all()
    stopped = run(
        small_config(tmp_path, optimizer="sgd", **{"optimizer.lr": 1e6, "run.on_divergence": "stop"}), summaries=False
    )
    assert stopped.status == "diverged"


def test_wrong_parts_are_users_errors(tmp_path):
    with pytest.raises(UserError, match=r"benchmark\.env: unknown environment 'Antt-v5'"):
        run(small_config(tmp_path, **{"benchmark.env": "Antt-v5"}))
    with pytest.raises(UserError, match=r"benchmark\.env: Ant-v3 needs what is not installed"):
        run(small_config(tmp_path, **{"benchmark.env": "Ant-v3"}))
    with pytest.raises(UserError, match=r"benchmark\.env_threads must be <= num_envs = 1, got 4"):
        run(small_config(tmp_path, **{"benchmark.env_threads": 4}))
    with pytest.raises(UserError, match=r"benchmark\.clip must be > 0"):
        run(small_config(tmp_path, **{"benchmark.clip": -1.0}))
    with pytest.raises(UserError, match="'mlp' does not fit rl_hopper; choose actor_critic"):
        run(resolve({"benchmark": "rl_hopper", "net": {"name": "mlp"}, "run": {"results_dir": str(tmp_path)}}))


def test_without_the_extra_packages_only_reinforcement_learning_is_missing(tmp_path):
    program = (
        "import sys\n"
        "sys.modules['gymnasium'] = sys.modules['mujoco'] = None\n"
        "from lop.plan import make_config\n"
        "from lop.runner import run\n"
        f"run(make_config(benchmark='rl_ant', overrides={{'run.results_dir': {str(tmp_path)!r}}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=SOURCE)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("lop.utils.errors.UserError: ")
    assert last.endswith('reinforcement learning needs the package mujoco: pip install "gymnasium[mujoco]"')
