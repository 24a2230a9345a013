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
seeds = "0-2"
dataset = None  # None: the benchmark's own; permuted_mnist also takes "fashion_mnist" or a path to your images
overrides = {"benchmark.num_tasks": 20, "run.threads": 1}  # anything by its path in the config
results_dir = "results/permuted_mnist"
data_dir = None  # where data sets are looked for first
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop.notebook import run_parameters, show_diagnostics, show_performance

results = run_parameters(globals())

# %%
show_performance(
    results, methods[0], text="Online accuracy: the share of examples predicted correctly before the update on them."
)

# %%
show_diagnostics(results, methods[0])
