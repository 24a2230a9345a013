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
# a method on a long stream of tasks, over several seeds, and measures before and after every task how plastic the
# networks still are. Plain SGD on the same tasks, with the same number of steps, runs beside it, in grey.
#
# Choose in the next cell (or by `papermill -p name value`, or in the form of a live notebook), then run all.

# %% tags=["parameters"]
optimizer = None  # sassha (default), adahessian, sophiah, sgd, adam, ...
benchmark = None  # permuted_digits (default, needs no download), permuted_mnist, ...
algos = []  # interventions, e.g. ["sdp", "ema"] or [{"name": "sdp", "gamma": 0.3}] or "sdp, ema"
seeds = None  # "0-15" or [0, 3, 7]; default: 0-4 on permuted_digits, elsewhere 0
seed = None  # one seed instead
num_tasks = None  # default: the benchmark's
dataset = None  # default: the benchmark's; another data set, or a path to your own images
lr = None  # step size; default: the optimizer's
settings = None  # a study's folder, or "best": use the settings that it has chosen for this optimizer
config = None  # path of a config file; its values hold where nothing is given here
overrides = {}  # anything else by its path in the config, e.g. {"optimizer.rho": 0.1, "net.hidden": [500, 500]}
baseline = True  # the plain optimizer (SGD; reinforcement learning: Adam) beside it
data_dir = None  # where data sets are looked for first
results_dir = None  # default: results
time_limit_hours = None  # stop cleanly before this, run again to go on; default: none, on Kaggle 8.5
resume = None  # auto (default), never, require
device = None  # auto (default), cpu, cuda
keep = None  # Colab: "drive" puts results on your Google Drive, "download" hands them to your browser at the end
repository = None  # Colab only: the git address to install from

# %%
import importlib.util
import os
import runpy
import subprocess
from pathlib import Path

if importlib.util.find_spec("lop") is None:  # Kaggle: from the attached data sets; Colab: from the repository
    clone, attached = Path("loss-of-plasticity"), Path(os.environ.get("LOP_KAGGLE_ROOT", "/kaggle"), "input")
    if repository and not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", str(repository), str(clone)], check=True)
    found = [path for folder in (Path(), clone) for path in folder.glob("lop-packages/install_lop.py")]
    found += [path for depth in range(1, 5) for path in attached.glob("*/" * depth + "install_lop.py")]
    if not found:
        raise SystemExit("lop is not installed: attach the lop-packages data set (Kaggle) or set `repository` (Colab)")
    runpy.run_path(str(found[0]), {"repository": repository}, "__main__")

from lop import notebook as nb
from lop import viz

chosen = nb.ask(globals())

# %%
configs = chosen.configs()
nb.preview(configs)
runs = nb.run_all(configs)
results, plain = nb.load_all(runs), configs[-1].label

# %%
sections = ["The numbers", "Within a task", "Task by task", "Why: the diagnostics", "Look around"]
nb.show_verdict(results, plain, runs=runs, contents=sections)
nb.show(viz.online_accuracy, results.tasks, baselines=[plain])

# %%
nb.show(nb.summary, results, plain, heading="The numbers", text=nb.texts.NUMBERS)
nb.show(viz.compare_optimizers, results.tasks, baselines=[plain])

# %%
binned = len(results.online) and results.online["bin"].max() > 0
draw, options = (viz.within_task, {}) if binned else (viz.online_curve, {"baselines": [plain]})
nb.show(draw, results.online, heading="Within a task", text=nb.texts.WITHIN, **options)

# %%
nb.show_by_task(results, heading="Task by task")

# %%
nb.show_diagnostics(results, plain)
nb.show(viz.layer_ranks, results.layers)

# %%
nb.show(viz.diagnostics_vs_accuracy, results.tasks, baselines=[plain], text=nb.texts.PREDICTION)

# %%
nb.show(viz.explore, results, baselines=[plain], heading="Look around", text=nb.texts.EXPLORE)
print(*(f"{run.status}: {run.folder}" for run in runs), sep="\n")
nb.hand_out(runs, chosen.parameters["keep"])
