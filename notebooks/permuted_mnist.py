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
# # Permuted images
#
# Every task shows the same images through a new permutation of their pixels: the tasks are equally hard, and nothing
# learned in one helps in the next but a net that is still able to learn (Dohare et al. 2024).
#
# The defaults are minutes on the embedded digits. For the paper's benchmark: `python download_data.py mnist`, then
# `benchmark = "permuted_mnist"`, `methods = ["bp", "cbp", ...]`, and without the overrides.

# %% tags=["parameters"]
benchmark = "permuted_digits"  # permuted_digits (embedded), permuted_mnist
methods = [
    "bp",
    "adam",
    "secondorder_sassha",
    "secondorder_adahessian",
]  # names of configs in lop-src/lop/permuted_mnist/cfg/digits (cfg for permuted_mnist)
seeds = [0]
dataset = None  # None: the benchmark's own; permuted_mnist also takes "fashion_mnist" or a path to your images
overrides = {"benchmark.num_tasks": 20, "run.threads": 1}  # anything by its path in the config
results_dir = "results/permuted_mnist"
data_dir = None  # where data sets are looked for first
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop import viz
from lop.notebook import check_parameters, run_methods, show
from lop.notebook.tables import summary

check_parameters()
results = run_methods(
    benchmark,
    methods,
    seeds=seeds,
    dataset=dataset,
    results_dir=results_dir,
    data_dir=data_dir,
    time_limit_hours=time_limit_hours,
    overrides=overrides,
)
tasks, baseline = results.tasks, methods[:1]

# %% [markdown]
# ## Performance
# Online accuracy: the share of examples predicted correctly before the update on them.

# %%
show(viz.online_accuracy, tasks, baselines=baseline)

# %%
show(viz.compare_optimizers, tasks, baselines=baseline)

# %%
show(summary, results, baseline=methods[0])

# %% [markdown]
# *early* and *late*: the first and the last fifth of the tasks; *change*: late minus early; *worst*: the worst
# task; *final*: test accuracy after the last tasks; *seconds*: training per task, without the diagnostics; *cost*:
# the same as a multiple of the first method's. With several seeds an interval (95%, bootstrap) stands beside the
# change.

# %% [markdown]
# ## Why: the diagnostics
# Before (dotted) and after (solid) every task. Falling ranks, growing weights and dormant units (active on less than
# 1% of the inputs) are the usual companions of lost plasticity. The map below shows in which layer they are.

# %%
show(viz.dashboard_grid, tasks, baselines=baseline)

# %%
show(viz.dormant_heatmap, results.layers)
