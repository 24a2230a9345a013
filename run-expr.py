# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Can the optimizer keep a network plastic?
#
# A network that learns task after task slowly loses its ability to learn: *loss of plasticity*. This notebook trains
# one learner on a long stream of tasks and measures, before and after every task, how plastic it still is. Plain SGD
# on the same tasks, with the same number of steps, runs next to it, in grey.
#
# Choose an optimizer, a benchmark and interventions in the next cell (or by `papermill -p name value`), then run all.

# %% tags=["parameters"]
optimizer = None  # sassha (default), adahessian, sophiah, sgd, adam, ...
benchmark = None  # permuted_digits (default, needs no download), permuted_mnist, ...
algos = []  # interventions, e.g. ["sdp", "ema"] or [{"name": "sdp", "gamma": 0.3}] or "sdp, ema"
seed = None  # default: 0
num_tasks = None  # default: the benchmark's
dataset = None  # default: the benchmark's; another data set, or a path to your own images
lr = None  # step size; default: the optimizer's
config = None  # path of a config file; its values hold where nothing is given here
overrides = {}  # anything else by its path in the config, e.g. {"optimizer.rho": 0.1, "net.hidden": [500, 500]}
baseline = True  # the plain optimizer (SGD; reinforcement learning: Adam) beside it
data_dir = None  # where data sets are looked for first
results_dir = None  # default: results
time_limit_hours = None  # stop cleanly before this; run again to go on
resume = None  # auto (default), never, require
device = None  # auto (default), cpu, cuda
repository = None  # Colab only: the git address to install from

# %% [markdown]
# ## Setup
# Finds out where it runs. On a laptop or a cluster the project is installed already; on Kaggle it comes from the
# attached wheels, without the internet; on Colab from the repository.

# %%
import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path


def attached(pattern: str) -> list[Path]:
    """Files and folders in the data sets attached on Kaggle; not deeper than that, since image folders are large."""
    folder = Path(os.environ.get("LOP_KAGGLE_ROOT", "/kaggle"), "input")
    return sorted(found for depth in range(1, 5) for found in folder.glob("*/" * depth + pattern))


def install() -> None:
    """Make `lop` importable with what this place offers; what is good enough already is left alone."""
    kept = [
        f"{name}=={version(name)}\n" for name in ("torch", "torchvision", "numpy") if importlib.util.find_spec(name)
    ]
    constraints = Path(tempfile.mkdtemp(), "keep.txt")
    constraints.write_text("".join(kept))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--upgrade-strategy", "only-if-needed", "-c", str(constraints)]
    clone = Path("loss-of-plasticity")
    sources = [Path("lop-src"), *attached("lop-src")]
    if wheels := attached("lop-[0-9]*.whl"):
        pip += ["--no-index", "--find-links", str(wheels[-1].parent)]
        if subprocess.run([*pip, "lop[rl,optimizers]"], capture_output=True).returncode:  # not all in the bundle
            subprocess.run([*pip, "lop"], check=True)
    elif repository:
        if not clone.exists():
            subprocess.run(["git", "clone", "--quiet", "--depth", "1", str(repository), str(clone)], check=True)
        subprocess.run([*pip, "--no-build-isolation", f"./{clone}"], check=True)
    elif found := [path for path in sources if (path / "lop").is_dir()]:
        sys.path.insert(0, str(found[0].resolve()))
    else:
        raise SystemExit("lop is not installed: attach the lop-packages data set (Kaggle) or set `repository` (Colab)")
    importlib.invalidate_caches()


if importlib.util.find_spec("lop") is None:
    install()

# %%
import pandas as pd

from lop import viz
from lop.notebook import check_parameters, describe, load_all, place, plan, run_all, show, summary
from lop.notebook.launcher import launcher
from lop.notebook.tables import by_task

check_parameters()
pd.set_option("display.max_columns", 40, "display.width", 160, "display.max_rows", 40)
chosen = launcher(optimizer=optimizer, benchmark=benchmark, algos=algos)

# %% [markdown]
# Where somebody sits in front of it, the form above chooses too: change it, then run from the next cell on.

# %%
configs = plan(
    **chosen.parameters,
    config=config,
    baseline=baseline,
    lr=lr,
    overrides=overrides,
    seed=seed,
    num_tasks=num_tasks,
    dataset=dataset,
    device=device,
    data_dir=data_dir,
    results_dir=results_dir,
    time_limit_hours=time_limit_hours,
    resume=resume,
)
print(f"place: {place()}")
for item in configs:
    print(f"{item.label}: {item.run.results_dir}/{item.run_name()}")
print(describe(configs[0]))

# %% [markdown]
# ## The run
# Every task ends with a summary; arrows go from before the task to after it. A finished run is not trained again, an
# unfinished one goes on where it stopped. The figures come [below the summaries](#What-came-out).

# %%
runs = run_all(configs)

# %% [markdown]
# ## What came out
# *Online accuracy* is the share of examples predicted correctly **before** the update on them. If the last tasks
# score lower than the first, although all tasks are equally hard, the learner has lost plasticity. The cost of a
# method stands next to its result: equal steps are not equal time.

# %%
results = load_all(runs)
tasks = results.tasks
print("Data:", *dict.fromkeys(results.runs["data"]))
names = dict(zip(results.runs["run"], results.runs["label"], strict=True))
plain = names.get(configs[-1].run_name(), configs[-1].label)
show(summary, results, plain)

# %%
show(viz.online_accuracy, tasks, baselines=[plain])

# %%
show(viz.compare_optimizers, tasks, baselines=[plain])

# %% [markdown]
# **Within a task.** A plastic network learns the last task as fast as the first: its curves lie on top of each other.

# %%
online = results.online
if len(online) and online["bin"].max() > 0:
    show(viz.within_task, online)
else:
    show(viz.online_curve, online, baselines=[plain])

# %% [markdown]
# The same in numbers, task by task:

# %%
show(by_task, results)

# %% [markdown]
# ## Why: the diagnostics
# Dotted: before the task; solid: after it. Falling ranks, growing weights and dormant units are the usual companions
# of lost plasticity.

# %%
show(viz.dashboard_grid, tasks, baselines=[plain])

# %%
show(viz.layer_ranks, results.layers)

# %%
show(viz.dormant_heatmap, results.layers)

# %% [markdown]
# Do the diagnostics at the start of a task tell how well it will be learned? Each point is the rank correlation over
# tasks; an interval that holds zero says: not on this evidence.

# %%
show(viz.diagnostics_vs_accuracy, tasks, baselines=[plain])

# %% [markdown]
# ## Look around
# In a live notebook (not under papermill) a form appears here, over every run in the results folder: choose runs,
# figure, diagnostics, layers and smoothing.

# %%
viz.explore(Path(runs[0].folder).parent)

# %% [markdown]
# The tables behind these figures are CSV files in the run folders; `lop.runs.load(folder)` reads them, and
# every figure takes such a table, so runs from other days can be put in the same plot.

# %%
for item in runs:
    print(f"{item.status}: {item.folder}")
